"""Which upstream should answer a call. No network, no HTTP words, no database: values in, a decision out.

A call is read, recognised and decided in these rooms:

    features.py     the few parts of a request that are read, from chat or responses bodies
    policy.py       calls that may never be diverted
    segments.py     zones, masks, lines: the alphabet of skeletons
    recognition.py  signature and skeleton → a cluster, or unknown
    payload.py      what is left of the request; is it like what the task has seen?
    contract.py     the form of a task's answers: enforced when an SLM generates, checked afterwards
    promotion.py    which SLM serves which cluster, at which stage
    certificate.py  what was proved about an SLM on a cluster, and whether it still holds
    engine.py       Router.decide(): the above, in order, in microseconds
    decision.py     what comes out, and its reason
    snapshot.py     the immutable bundle of learned things that the engine serves from

`router.learning` is the offline loop that makes snapshots. It may use everything here; nothing here imports it.
"""
