"""Bytes in, bytes out: clients' connections, and ours to upstreams. Knows nothing of models, tasks or the log.

http_server.py  clients' connections, as uvicorn has them
disconnects.py  a client that leaves cancels its call
headers.py      which headers cross the proxy, and which don't
upstreams.py    who is asked: the LLM by `http1.py`, SLMs by aiohttp
http1.py        a pooled HTTP/1.1 client that leaves heads and bodies as they are: timeouts, cancellation
"""
