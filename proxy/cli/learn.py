"""`understudy learn`."""

from __future__ import annotations

from proxy.cli.terminal import console, open_log, progress
from proxy.settings import load_settings


def learn() -> None:
    """Discover the recurring tasks in the call log and put them in force. Example: understudy learn"""
    from proxy.learning import damaged_calls, learn_from_log
    from storage.artifacts import ArtifactStore

    settings = load_settings()
    database, cipher = open_log(settings)
    artifacts = ArtifactStore(settings.artifacts_dir, cipher)
    with progress("reading the log") as tell:
        found = learn_from_log(database, cipher, artifacts, tell, settings.encoder)
    if found.damaged:
        console.print(f"{damaged_calls(found.damaged)}; skipped", soft_wrap=True)
    console.print(
        f"{found.calls} calls, {found.clusters} tasks, {found.unassigned} calls in none; "
        f"snapshot {found.snapshot_id} is in force",
        soft_wrap=True,
    )
