"""A real Prometheus for tests: Debian's, with the repository's configuration, hurried to a scrape a second."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from proxy.demo.servers import free_port
from tests.conftest import wait_for

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for file in sorted((FOLDER / "rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
VARIABLES = {"$__rate_interval": "2m", "$__range": "5m"}  # Grafana fills these in


class Prometheus:
    """One server, asked over HTTP."""

    def __init__(self, root: str) -> None:
        self.root = root

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return httpx.get(f"{self.root}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def api(self, path: str, **parameters: Any) -> Any:
        """Call its HTTP API, below `/api/v1`; returns what it holds under `data`."""
        answer = httpx.get(f"{self.root}/api/v1{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """What an expression is just now, as Grafana would ask for it: the numbers, without those that are none."""
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        found = [float(sample["value"][1]) for sample in self.api("/query", query=expression)["result"]]
        return [value for value in found if math.isfinite(value)]

    def catch_up(self) -> None:
        """Wait until the rules were evaluated upon a scrape that began after this call."""
        for newest in ('timestamp(up{job="understudy"})', "timestamp(understudy:cost_usd:rate1h)"):
            [now] = self.values("vector(time())")
            wait_for(lambda newest=newest, now=now: self.values(f"{newest} > {now}"))


@contextmanager
def watching(directory: Path, proxy: str) -> Iterator[Prometheus]:
    """Run Prometheus until the end of the block.

    Args:
        directory: for its data, its log and its configuration.
        proxy: host and port to scrape instead of the one in docker-compose.yml.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed")
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(FOLDER / pattern) for pattern in configuration["rule_files"]]
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [proxy]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        prometheus = Prometheus(f"http://{address}")
        wait_for(lambda: prometheus.is_ready() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)
