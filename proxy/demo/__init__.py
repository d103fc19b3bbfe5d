"""What `make demo` runs: agents, a simulated LLM, small models trained on the spot, and the real proxy.

story.py        the demo from beginning to end
agents/         the simulated agents, and the LLM's answers to them
traffic.py      the agents at work, their answers held against the truth
operator.py     who looks after the proxy: the admin API
tables.py       what it ends with
tiny_model.py   a base model made here; an adapter, where the product itself can't train one
slm_servers.py  what serves the models: vLLM, or `transformers serve`
servers.py      the real proxy and the real SLM servers, as processes
course.py       what is being done, and the time left
"""
