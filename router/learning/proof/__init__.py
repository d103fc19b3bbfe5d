"""The proof that an SLM may stand in for the LLM: comparison, certificate, audit. Values in, values out, no I/O.

    agreement.py      one comparator per output contract: do two answers agree?
    json_values.py    when two JSON values are the same
    text.py           free text: closeness of embeddings, or a judge
    bounds.py         exact confidence bounds on a rate, for one look
    betting.py        evidence that may be looked at after every call
"""
