"""What calls cost, what they would have cost, and whether it pays. Unknown is None, never 0.

pricing.py       prices by model and day
tokens.py        tokens that nobody reported; `tokenisation.py` turns an SLM's into the LLM's
ledger.py        off the hot path: what a record says (model, tokens, money), for the log and the metrics
savings.py       what the SLMs have saved, net of what they cost: one account for all who ask
economics.py     whether training an SLM for a task pays
copy_budget.py   what copies, and an LLM that judges them, may cost in a day
"""
