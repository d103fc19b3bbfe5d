"""`understudy learn`."""

from __future__ import annotations

from proxy.cli.terminal import console, open_log, progress
from proxy.settings import load_settings


def learn() -> None:
    """Discover the recurring tasks in the call log and put them in force. Example: understudy learn"""
    from proxy.learning.discovery import learn_from_log
    from storage.artifacts import ArtifactStore

    settings = load_settings()
    database, cipher = open_log(settings)
    artifacts = ArtifactStore(settings.artifacts_dir, cipher)
    with progress("reading the log") as tell:
        found = learn_from_log(database, cipher, artifacts, tell, settings.encoder)
    for words in found.words:
        console.print(words, soft_wrap=True)
