"""Recorded calls, both ways.

recordings.py   what was recorded, read from files
client.py       sends recorded requests to a proxy, with the official client
upstream.py     serves recorded answers as an upstream: the LLM of the test suite and of the demo
answers.py      which answer belongs to which request
spelling.py     a whole answer as a stream
behaviour.py    how slowly, how brokenly it serves them
provider.py     the rest of a provider's surface: models, embeddings, files, audio
"""
