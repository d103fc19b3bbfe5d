"""Grafana's dashboards as code: `python -m deploy.grafana` writes `dashboards/*.json`, which Grafana gets.

    savings.py, quality.py, operations.py   a dashboard each: what is asked, and in which words it is explained
    panels.py                               how a panel looks

The JSON is committed; a test says whether it is what this code writes. Writing it needs grafana-foundation-sdk, using
it does not.
"""
