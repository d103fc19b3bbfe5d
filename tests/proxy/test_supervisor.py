"""The service as an operator meets it: real processes, one port."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from proxy.supervisor import HEALTHCHECK_SECONDS, TICK_SECONDS
from tests.conftest import running, understudy, wait_for


def test_workers_add_up_survive_each_other_and_end_with_their_supervisor(tmp_path: Path) -> None:
    with running(tmp_path, workers=2, upstream_url="http://127.0.0.1:9/v1") as proxy:
        supervisor = psutil.Process(proxy.process.pid)
        name = 'understudy_calls_total{endpoint="models",served_by="llm",status="5xx"}'
        for _ in range(20):
            assert httpx.get(f"{proxy.base_url}/models").status_code == 502
        assert proxy.metric(name) == 20
        first, second = proxy.children("worker")
        assert len(proxy.children("shipper")) == 1
        assert proxy.children("learner") == []  # it was asked to go without
        first.kill()
        wait_for(lambda: not psutil.pid_exists(first.pid), 30)  # reaped, not a zombie any more
        wait_for(lambda: len(proxy.children("worker")) == 2, 30)
        assert second in proxy.children("worker")
        assert httpx.get(f"{proxy.root}/healthz", timeout=30).status_code == 200
        assert proxy.metric(name) == 20
        children = supervisor.children(recursive=True)
        os.kill(supervisor.pid, signal.SIGKILL)
        proxy.process.wait()
        assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_worker_that_dies_while_it_is_pinged_is_replaced_at_once(tmp_path: Path) -> None:
    with running(tmp_path, upstream_url="http://127.0.0.1:9/v1") as proxy:
        [worker] = proxy.children("worker")
        worker.suspend()
        time.sleep(2 * TICK_SECONDS)  # now the supervisor waits for its answer
        worker.kill()
        wait_for(lambda: "worker.died" in proxy.errors.read_text(), HEALTHCHECK_SECONDS / 3)


def test_sigterm_ends_with_status_zero(tmp_path: Path) -> None:
    with running(tmp_path, upstream_url="http://127.0.0.1:9/v1") as proxy:
        assert proxy.stop() == 0


def test_a_taken_port_is_one_line_and_status_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = understudy("serve", "--port", str(port), data_dir=tmp_path / "data")
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"understudy: can't listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("command", [["serve"], ["report"], ["learn"]])
def test_a_data_dir_that_is_a_file_is_one_line(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "data").write_text("no directory")
    done = understudy(*command, data_dir=tmp_path / "data")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "UNDERSTUDY_DATA_DIR" in done.stderr
