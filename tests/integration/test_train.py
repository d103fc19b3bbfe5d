"""`understudy train`: from the log to a certificate, with a model trained here and a simulated SLM server."""

from __future__ import annotations

import json
from pathlib import Path

from proxy.settings import Settings
from proxy.workshop import Workshop
from storage.repositories.certificates import list_certificates
from storage.repositories.registry import get_model
from tests.conftest import understudy
from tests.proxy.fake_vllm import FakeVllm
from tests.proxy.test_evaluation import asked, know, label_of, log_calls, tickets
from tests.router.learning.training.conftest import build_base


def test_a_task_is_trained_and_certified_by_one_command(tmp_path: Path) -> None:
    base, data_dir = build_base(tmp_path / "base"), tmp_path / "data"
    data_dir.mkdir()
    with FakeVllm() as fake:
        fake.answerer = lambda request: (label_of(asked(request)), 0.99)
        workshop = Workshop.open(Settings(data_dir=data_dir), lambda line: None)
        know(workshop)
        log_calls(workshop, tickets(320))
        done = understudy(
            *("train", "c-1", "--base", str(base), "--json"), data_dir=data_dir, slm_url=f"gpu={fake.url}", encoder=""
        )
        assert done.returncode == 0, done.stderr
        assert "training" in done.stderr  # progress, where nobody sits before a terminal
        found = json.loads(done.stdout)
        model = found["fine_tune"]["model"]
        with workshop.database.read() as session:
            [kept] = list_certificates(session, "c-1")
            registered = get_model(session, model)
        assert kept.model == model
        assert registered is not None
        assert registered.adapter is not None
        assert (Path(registered.adapter) / "adapter_config.json").exists()
        assert (found["evaluate"]["passes"], found["evaluate"]["certificate_id"]) == (True, kept.certificate_id)
        workshop.database.close()
