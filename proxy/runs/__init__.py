"""Learning, training and evaluation as durable work.

queue.py          runs as those see them who ask for them
learner.py        the process that does them, one at a time as a rule, and goes on with them after it was killed
stages.py         what a run of each kind consists of
stage_process.py  one stage in a process of its own
schedule.py       when runs begin by themselves
"""
