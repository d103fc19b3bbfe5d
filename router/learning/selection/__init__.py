"""Which base models come into question for a task on given hardware, and why (S4 of the paper).

    catalogue.toml  current open models, as data: every entry has its licence and its source
    catalogue.py    reading it, and a user's own file of the same form
    memory.py       what a model takes on a GPU: a rule, no measurement
    needs.py        what a task asks of a model; what there is to serve it with
    rule.py         who is left out, and the rest by cost
    record.py       the same in words, for the record of a run
    bakeoff.py      who of them is good enough, tried out

The rule only says who may try; which of them is good enough, the bake-off decides. Nothing is fetched: a benchmark
stands in the catalogue with the page that it was read on, is shown, and decides nothing.
"""
