"""OpenAI's formats on the wire: values in, values out, no I/O.

    endpoint.py     which part of the surface a request is for
    sse.py          server-sent events out of bytes, split anywhere
    usage.py        tokens as each vendor counts them, as one thing
    chat.py         chat completions: a stream ⇄ the completion it spells
    responses.py    responses: the same
    completions.py  legacy completions: the stream put together
    messages.py     Anthropic's messages: the stream put together
    answer.py       any of their answers, streamed or not, compressed or not, as one JSON value
    translation.py  chat ⇄ responses, because SLMs are asked by chat completions

Bodies are not modelled in full: what isn't read is passed on as it came. Nothing here runs per delta on the hot path;
the relay forwards bytes and the log rebuilds the answer later.
"""

from proxy.wire.endpoint import Endpoint, classify

__all__ = ["Endpoint", "classify"]
