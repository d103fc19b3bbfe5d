"""How a training can end without a model. Nothing half-trained is left in place by any of them.

TrainingFailed
├── TooFewSamples      the message says how many are needed, and what became of the rest
├── BaseNotFound       no such base model here, and none to be had from the hub
├── NoChatTemplate     the base model does not know what a conversation looks like
├── ToolsUnrenderable  its chat template leaves out the tools that the task's calls offer or its answers call
├── MethodUnavailable  this machine can't do it this way
├── OutOfMemory        of the GPU, or of the machine
└── Diverged           the loss is no number any more, or worse than guessing
"""

from __future__ import annotations


class TrainingFailed(Exception):
    """The root; the message is one line, `reason` a constant."""

    reason = "training_failed"


class TooFewSamples(TrainingFailed):
    """There is not enough to learn from."""

    reason = "too_few_samples"


class BaseNotFound(TrainingFailed):
    """There is no such base model."""

    reason = "base_not_found"


class NoChatTemplate(TrainingFailed):
    """The base model has no chat template."""

    reason = "no_chat_template"


class ToolsUnrenderable(TrainingFailed):
    """The base model's chat template knows no tools."""

    reason = "tools_unrenderable"


class MethodUnavailable(TrainingFailed):
    """This machine can't train by this method."""

    reason = "method_unavailable"


class OutOfMemory(TrainingFailed):
    """Memory ran out."""

    reason = "out_of_memory"


class Diverged(TrainingFailed):
    """Training made it worse than guessing."""

    reason = "diverged"
