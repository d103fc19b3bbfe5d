"""What of a log is replaceable: the report that an engineer shows to whoever pays the bill.

    reading.py      the log as arrays: each call's task, conversation, tokens, money, and whether it may be diverted
    replaceable.py  from there to shares with confidence intervals, and to where each task stands
    charts.py       inline SVG
    page.py         one self-contained HTML page of it; `page.html` is its template

**Replaceable** means of a call, by its structure and by what the log shows:

1. it belongs to a task: a template that recurs over distinct conversations, found by `understudy learn`;
2. it may be diverted at all: no provider state, no built-in tool, no tool loop that the LLM began (`router/policy.py`);
3. its task recurs in at least as many conversations as a proof takes when nothing fails (59 at 5 % risk and 95 %
   confidence);
4. the answers of its task have a closed form (a tool call, JSON, a label), so that a machine can say whether two of
   them are the same. Tasks that answer in free text are counted apart: there sameness has to be judged;
5. the LLM does not contradict itself on the task more often than the risk allows, where the log repeats a request.

It does **not** mean that any small model can do the task, nor that it would be cheaper. The first is what a certificate
proves, with a model that was trained and tried on held-out calls; the second depends on what serving costs. So this is
an upper limit, and the certified share a lower one.

The intervals say how far the share could lie from this in other traffic of the same kind: conversations are taken as a
random sample (`router/learning/proof/shares.py`), each interval for itself. They know nothing of traffic that changes.
"""
