"""What is kept: calls on their way to the database, calls in it, artifacts, and the keys that encrypt them.

A logged call walks through these rooms, in this order:

    records.py     what one logged call is; what was read from it
    ids.py         its id (UUIDv7), the idempotency key of everything below
    cipher.py      AES-256-GCM and keyed hashes from the data directory's key file
    spool.py       one framed, checksummed append to the worker's own segment file
    shipper.py     segments → database, in batches; adopts the segments of dead workers
    redaction.py   what must not be stored is blacked out, where the settings say so; encodings.py makes it readable
    bodies.py      bodies taken apart at their messages, so that each is stored once
    blocks.py      such pieces, and what is left of the bodies, compressed and encrypted many at a time
    models.py      tables; migrations/ brings an older database up to them
    database.py    engines; read and write sessions are different types
    repositories/  every query; retention.py among them deletes what is too old, forgetting.py what somebody asks to

Beside the log: `artifacts.py` keeps immutable, checksummed, encrypted directories (snapshots, adapters),
and `privacy.py` keeps other users out.

Nothing here knows HTTP, OpenAI's wire formats or what a task is.
"""
