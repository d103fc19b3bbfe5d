"""Recorded calls, both ways.

recordings.py   what was recorded, read from files
client.py       sends recorded requests to a proxy, with the official client
upstream.py     serves recorded answers as an upstream: the LLM of the test suite and of the demo
faults.py       how brokenly it does
"""
