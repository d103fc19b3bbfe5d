"""What `make demo` runs: agents, a simulated LLM, a small model trained on the spot, and the real proxy.

story.py        the demo from beginning to end, and its table
agents.py       the triage agent, and the simulated LLM's answers to it
tiny_model.py   a base model and a LoRA adapter, trained in seconds
slm_servers.py  what serves that model: vLLM, or `transformers serve`
servers.py      the real proxy and the real SLM servers, as processes
course.py       what is being done, and the time left
"""
