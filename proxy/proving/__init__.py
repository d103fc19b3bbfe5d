"""A served SLM put to the proof on held-out calls; `evaluation.py` is the story, and has the map.

Free text is compared by the LLM where the settings name a judge: `text_judge.py`, asked with `judge_prompt.py`, for no
more than `judge_budget.py` allows.
"""
