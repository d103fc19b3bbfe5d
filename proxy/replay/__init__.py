"""Recorded calls: sent to a proxy with the official client (`client.py`), and served as an upstream (`upstream.py`)."""
