"""Who comes in force, on which proof: one code path for people, the command line and the autopilot.

moves.py        every step between stages
proof.py        what is proved of an SLM today
audit_share.py  how many of its calls the LLM answers too
autopilot.py    the next step that the evidence allows
"""
