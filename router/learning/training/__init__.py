"""From a task's samples to an SLM: supervised fine-tuning of a base model, with TRL on PEFT (S5 of the paper).

    dataset.py      what curation made of a task, as it is kept
    recipe.py       how to train: method, rates, lengths; what is not said follows from the model's size
    base.py         the model that it starts from: found, whole, with a chat template
    rendering.py    samples in the base's own chat template; the loss is on the answer alone
    soft_targets.py what the LLM found likely, where the log has it, as a target beside what it said
    validation.py   the conversations that early stopping looks at
    fine_tuning.py  the way through: to an adapter that is there whole or not at all, and goes on after a kill
    trainer.py      TRL's trainer as it is used here: nothing is sent anywhere, a loss that explodes is an end
    threads.py      torch on one core, for models so small that a second one slows them down
    quiet.py        what the libraries would say meanwhile
    model_card.py   what was trained on what and how it went
    weights.py      which files make a model what it is, as a hash
    errors.py       how it can end

The network is used for one thing: a base model that is named by the hub's name and not here yet.
"""
