"""`understudy train`: from the log to a certificate, with a model trained here and a simulated SLM server."""

from __future__ import annotations

import json
from pathlib import Path

from proxy.learning.workshop import Workshop
from proxy.settings import Settings
from proxy.slm.kept_adapters import artifact_of
from storage.repositories.certificates import list_certificates
from storage.repositories.registry import get_model
from tests.conftest import understudy
from tests.proxy.fake_vllm import FakeVllm
from tests.proxy.proving.test_evaluation import asked, know, label_of, log_calls, tickets
from tests.router.learning.training.conftest import build_base


def test_a_task_is_trained_and_certified_by_one_command(tmp_path: Path) -> None:
    """On the smaller of two served base models, which both do it."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with FakeVllm() as fake, FakeVllm() as larger:
        for server, hidden in ((fake, 32), (larger, 64)):
            server.base = str(build_base(tmp_path / f"base-{hidden}", hidden=hidden))
            server.answerer = lambda request: (label_of(asked(request)), 0.99)
        workshop = Workshop.open(Settings(data_dir=data_dir), lambda line: None)
        know(workshop)
        log_calls(workshop, tickets(320))
        done = understudy(
            *("train", "c-1", "--json"), data_dir=data_dir, slm_url=f"large={larger.url},gpu={fake.url}", encoder=""
        )
        assert done.returncode == 0, done.stderr
        assert "training" in done.stderr  # progress, where nobody sits before a terminal
        found = json.loads(done.stdout)
        assert found["choose_base"]["in_words"].endswith(f"taken: {fake.base}, the cheapest that reaches 95.0%")
        model = found["fine_tune"]["model"]
        with workshop.database.read() as session:
            [kept] = list_certificates(session, "c-1")
            registered = get_model(session, model)
        assert kept.model == model
        assert registered is not None
        assert (registered.slm, registered.base) == ("gpu", fake.base)
        assert registered.adapter is not None
        assert (Path(registered.adapter) / "adapter_config.json").exists()
        kept_adapters = [path.name for path in workshop.settings.artifacts_dir.glob("adapter-*")]
        assert kept_adapters == [artifact_of(registered.weights or "")], "not those of the bake-off"
        assert (found["evaluate"]["passes"], found["evaluate"]["certificate_id"]) == (True, kept.certificate_id)
        workshop.database.close()
