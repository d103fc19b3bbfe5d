"""HTTP that is not a call: health, metrics, the admin API, the start page.

    health.py                 /healthz, /readyz, /metrics; no token needed
    page.py                   the start page
    admin.py                  the admin API: one module per noun (clusters, promotions, models, runs, calls, savings,
                              audit)
    access.py                 how an endpoint gets at the worker's state and its caller
    schemas.py                what the admin API takes and gives
    errors.py                 everything that goes wrong, in OpenAI's shape

Endpoints are plain functions, so that FastAPI runs them in threads: their database work must not hold up a call.
"""
