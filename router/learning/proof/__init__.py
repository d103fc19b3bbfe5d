"""The proof that an SLM may stand in for the LLM: comparison, certificate, audit. Values in, values out, no I/O.

    agreement.py      one comparator per output contract: do two answers agree?
    json_values.py    when two JSON values are the same
    text.py           free text: closeness of embeddings, or a judge
    judge.py          what a comparator's own error costs
    ceiling.py        the LLM's agreement with itself
    bounds.py         exact confidence bounds on a rate, for one look
    shares.py         shares of calls that come in conversations
    betting.py        evidence that may be looked at after every call
    standard.py       what has to be proved, and how many calls that takes
    evidence.py       compared calls as arrays; one call per conversation
    thresholds.py     how sure an SLM must be: fixed-sequence testing on the calibration split
    certification.py  drawing up `router.certificate.Certificate`
    audit.py          the certificate kept under test by live traffic
    drift.py          traffic that no longer looks like what was certified

The promise: a certificate at risk α and confidence 1 − δ is wrong (the calls served disagree more often than α) with a
chance of at most δ; and an audit ends a promotion that keeps its promise, and hasn't changed, in at most 1 of 10,000
lives.
"""
