"""SLMs: asked for answers, and looked after. Nothing here decides when.

attempts.py       the seam: what one try at an SLM comes to
client.py         one attempt: rewrite, enforce the contract, verify, or give way to the LLM
breaker.py        which servers are worth trying just now
vllm.py           vLLM's control plane: which models a server has, and loading adapters
adapters.py       whether an adapter fits a base model
kept_adapters.py  those that were trained here: kept as artifacts, restored where their server reads them
reload.py         promoted adapters, loaded again into a server that was restarted
"""
