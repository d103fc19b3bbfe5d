"""From the log to tasks, samples and a registered SLM. The heavy halves are in `router.learning`, imported late.

teacher.py      what the LLM answered to the log's calls, audits included: whatever learns reads the log here
discovery.py    the log into a snapshot in force; `lineage.py` says what became of the tasks
candidates.py   a task's calls, by the rules that training and proof share
curation.py     a task's calls into samples
training.py     samples into a registered SLM
selection.py    which base model could do a task
workshop.py     what every learning function works with
"""
