"""One call, from its first byte to its record; and the copies that are made of it when its client is gone.

relay.py        read, decide, try, relay, log
reading.py      a request's body, parsed beside the bytes that are passed on
recorder.py     the call as a record, into the spool, before the client sees its end
copies.py       shadow and audit copies, when the client has its answer
"""
