"""What `make demo` runs: agents, a simulated LLM, a small model trained on the spot, and the real proxy."""
