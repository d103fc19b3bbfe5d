"""A base model and an adapter that has learned the triage task, trained here, for the tests of real SLM servers."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path

from proxy.demo import agents, tiny_model
from proxy.demo.agents import triage

BASE_STEPS, ADAPTER_STEPS = 10, 130  # 97 of 100 unseen tickets right, for 40 s of one core


def trained() -> Path:
    """Make the models, once for all runs with the same code.

    Returns:
        A directory with `base`, its adapter `triage`, and `merged`, which is both in one.
    """
    code = b"".join(Path(module.__file__).read_bytes() for module in (tiny_model, triage))
    kept = Path(tempfile.gettempdir()) / f"understudy-tiny-{os.getuid()}-{hashlib.sha256(code).hexdigest()[:16]}"
    if not kept.is_dir():
        draft = Path(tempfile.mkdtemp(dir=kept.parent))
        samples = [
            (agents.ticket_call(text)["messages"], answer) for text, answer in itertools.islice(agents.tickets(1), 600)
        ]
        texts = [m["content"] for messages, _ in samples for m in messages] + [answer for _, answer in samples]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own deprecations
            tiny_model.quiet()
            tiny_model.build_base(draft / "base", texts, steps=BASE_STEPS)
            tiny_model.train_adapter(draft / "base", draft / "triage", samples, steps=ADAPTER_STEPS)
            tiny_model.merge_adapter(draft / "base", draft / "triage", draft / "merged")
        with contextlib.suppress(OSError):  # another process was quicker
            draft.rename(kept)
        shutil.rmtree(draft, ignore_errors=True)
    return kept
