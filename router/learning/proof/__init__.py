"""The proof that an SLM may stand in for the LLM: comparison, certificate, audit. Values in, values out, no I/O.

    agreement.py      one comparator per output contract: do two answers agree?
    json_values.py    when two JSON values are the same
    text.py           free text: closeness of embeddings, or a judge
    judge.py          what a comparator's own error costs
    ceiling.py        the LLM's agreement with itself
    bounds.py         exact confidence bounds on a rate, for one look
    betting.py        evidence that may be looked at after every call
    standard.py       what has to be proved, and how many calls that takes
    evidence.py       compared calls as arrays; one call per conversation
    thresholds.py     how sure an SLM must be: fixed-sequence testing on the calibration split
    certification.py  drawing up `router.certificate.Certificate`
"""
