"""HTTP that is neither a call nor a page: health, metrics, the admin API.

    health.py                 /healthz, /readyz, /metrics; no token needed
    admin.py                  the admin API: one module per noun (clusters, promotions, models, runs, calls, savings,
                              keys, audit)
    access.py                 how an endpoint gets at the worker's state and its caller
    schemas.py                what the admin API takes and gives
    errors.py                 everything that goes wrong, in OpenAI's shape

Endpoints are plain functions, so that FastAPI runs them in threads: their database work must not hold up a call.
"""
