"""The HTTP side. One call, told by the files it walks through:

    http_server.py  clients' connections, as uvicorn has them
    app.py          the ASGI app: the relay under /v1, the admin API, health and metrics beside it
    relay.py        one call from its first byte to its record: read, decide, try, relay, log
    wire/           OpenAI's formats: which endpoint, which few fields, SSE events, usage
    upstreams.py    who is asked: the LLM by `http1.py`, SLMs by aiohttp
    http1.py        a pooled HTTP/1.1 client that leaves heads and bodies as they are: timeouts, cancellation
    slm.py          one attempt at an SLM: rewrite, enforce the contract, verify, or give way to the LLM
    breaker.py      which SLM servers are worth trying just now
    recorder.py     the call as a record, into the spool, before the client sees its end
    ledger.py       off the hot path: what a record says (model, tokens, money), for the log and the metrics

Around it: `settings.py` (all of them; `base_url.py` checks URLs), `errors.py` (the tree and OpenAI's error shape),
`auth.py` and `keys.py` (who may do what), `metrics.py` (every metric), `state.py` (the one state object), `serving.py`
(which snapshot and promotions are in force, kept fresh), `promotions.py` (who comes in force, and every step between
stages), `proof.py` (what is proved of an SLM today), `endpoints/` (admin API, health), `console/` (the pages at `/`),
`vllm.py` (LoRA control plane), `traces.py` (spans for a collector), `supervisor.py` (worker processes, the shipper and
the learner), `cli/` (the `understudy` command), `replay/` (recorded calls as a client and as an upstream), `imports/`
(past calls from other tools' logs), `report/` (what of a log is replaceable), `demo/`.

Learning is background work, beside all this:

    runs.py           runs as those see them who ask for them: durable, in a queue
    learner.py        the process that does them, one at a time, and goes on with them after it was killed
    stages.py         what a run of each kind consists of: `learning.py`, `training.py`, `evaluation.py`
    curation.py       a task's calls into samples
    base_choice.py    on which base model; `entrants.py` are tried in `tryout.py`
    training.py       samples into a registered SLM; `adapters.py` tells whether one fits a base
    evaluation.py     held-out calls through a served SLM into a certificate; its map is there
    watch.py          what keeps promotions honest: copies judged, audits, drift, the next step; its map too
    stage_process.py  one stage in a process of its own
    schedule.py       when runs begin by themselves
    lineage.py        what became of the tasks when the log was learned again
    workshop.py       what every learning function works with
"""
