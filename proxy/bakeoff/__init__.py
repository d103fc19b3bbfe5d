"""Which base model a task is learned on: those that are served, tried against each other; `choice.py` is the story."""
