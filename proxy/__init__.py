"""The HTTP side. One call, told by the rooms and files it walks through:

    transport/      clients' connections, headers, and who is asked: the LLM, SLMs
    app.py          the ASGI app: the relay under /v1, the admin API, health and metrics beside it
    relay/          one call from its first byte to its record: read, decide, try, relay, log; its copies
    wire/           OpenAI's formats: which endpoint, which few fields, SSE events, usage
    slm/            one attempt at an SLM, and the servers that have them
    money/          off the hot path: what a record says (model, tokens, money), savings, what pays

Around it: `settings.py` (all of them; `base_url.py` checks URLs), `errors.py` (the tree and OpenAI's error shape),
`auth.py` and `keys.py` (who may do what), `metrics.py` (every metric), `logs.py` (every line of our own), `state.py`
(the one state object), `serving.py` (which snapshot and promotions are in force, kept fresh), `promotion/` (who comes
in force, on which proof), `endpoints/` (admin API, health), `console/` (the pages at `/`), `traces.py` (spans for a
collector), `supervisor.py` (worker processes, the shipper and the learner), `shipping.py` (the shipper), `cli/` (the
`understudy` command), `replay/` (recorded calls as a client and as an upstream), `imports/` (past calls from other
tools' logs), `report/` (what of a log is replaceable), `demo/`.

Learning is background work, beside all this; no room that serves calls knows of it:

    learning/       the log into tasks, a task into samples, samples into a registered SLM
    bakeoff/        on which of the served base models
    proving/        held-out calls through a served SLM into a certificate
    watch/          what keeps promotions honest: copies judged, audits, drift, the next step
    runs/           all of it as durable work, in a process of its own
"""
