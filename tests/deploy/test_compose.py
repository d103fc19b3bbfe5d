"""docker-compose.yml: valid, whole, watched for health, closed by default, and with no secret that can be forgotten."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.demo.servers import free_port
from proxy.settings import PREFIX, Settings
from tests.conftest import understudy, wait_for
from tests.deploy.conftest import Watched
from tests.deploy.prometheus import FOLDER as PROMETHEUS

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
SECRET = re.compile("PASSWORD|TOKEN|SECRET|KEY")
VARIABLE = re.compile(r"\$\{(\w+)(:\?|:-|)([^}]*)\}")


def variables() -> set[tuple[str, str]]:
    """Every variable that is put into the file's values, and how: `:?` it must be set, `:-` it has a default."""
    return {(name, how) for name, how, _ in VARIABLE.findall(yaml.safe_dump(SERVICES, width=1000))}


def test_it_is_a_compose_file() -> None:
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_is_there_and_says_whether_it_is_well() -> None:
    assert set(SERVICES) == {"proxy", "learner", "postgres", "vllm-gpu", "vllm-cpu", "prometheus", "grafana"}
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in SERVICES.values())
    assert all(service["restart"] == "unless-stopped" for service in SERVICES.values())


def test_the_slm_server_is_chosen_by_profile_and_found_by_one_name() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"vllm-gpu": ["gpu"], "vllm-cpu": ["cpu"]}
    assert all(SERVICES[name]["networks"]["default"]["aliases"] == ["vllm"] for name in profiles)


def test_secrets_must_be_given() -> None:
    required = {name for name, how in variables() if how == ":?"}
    assert required == {"UNDERSTUDY_ADMIN_TOKEN", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}
    assert {name for name, how in variables() if SECRET.search(name)} == required


def test_no_secret_stands_in_the_file() -> None:
    given = [
        (name, value)
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if SECRET.search(name)
    ]
    assert len(given) >= 6
    assert [pair for pair in given if pair[1] is not None and not re.fullmatch(r"\$\{\w+:\?[^}]+\}", pair[1])] == []


@pytest.mark.parametrize("service", ["proxy", "learner"])
def test_every_setting_reaches_the_proxy_and_the_learner(service: str) -> None:
    passed = {name for name in SERVICES[service]["environment"] if name.startswith(PREFIX)}
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert passed == settings - {"UNDERSTUDY_DATA_DIR"}


def test_nothing_listens_beyond_this_machine_by_default() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(re.match(r"(\$\{\w+:-127\.0\.0\.1\}|127\.0\.0\.1):", port) for port in ports)


def test_what_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    paths = {ROOT / source for source in mounted if source.startswith("./")}
    assert paths
    assert all(path.is_dir() for path in paths)


def test_prometheus_scrapes_the_services_by_their_names() -> None:
    proxy, vllm = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    command = SERVICES["proxy"]["command"]
    assert proxy["static_configs"] == [{"targets": [f"proxy:{command[command.index('--port') + 1]}"]}]
    [found] = vllm["dns_sd_configs"]
    assert f"--port={found['port']}" in SERVICES["vllm-gpu"]["command"]
    assert f"--port={found['port']}" in SERVICES["vllm-cpu"]["command"]


def test_the_proxys_health_check_knows_the_living_from_the_dead(watched: Watched) -> None:
    assert _is_healthy(watched.proxy.root.rpartition(":")[2])
    assert not _is_healthy(str(free_port()))


def _is_healthy(port: str) -> bool:
    """What the check says: run as it stands, but for the port."""
    _, _, option, code = SERVICES["proxy"]["healthcheck"]["test"]
    assert "127.0.0.1:8000/readyz" in code
    probe = [sys.executable, option, code.replace("8000", port)]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_the_learners_health_check_knows_the_living_from_the_dead(watched: Watched, tmp_path: Path) -> None:
    _, _, option, code = SERVICES["learner"]["healthcheck"]["test"]
    named = f"/data/learner-{SERVICES['learner']['hostname']}.lock"
    assert named in code
    lock = watched.proxy.data_dir / f"learner-{socket.gethostname()}.lock"
    probe = [sys.executable, option, code.replace(named, str(lock))]
    wait_for(lambda: time.time() - lock.stat().st_mtime < 10)  # of a learner that has been at work for long
    assert subprocess.run(probe, check=False).returncode == 0
    dead = tmp_path / "learner.lock"
    dead.touch()
    an_hour_ago = time.time() - 3600
    os.utime(dead, (an_hour_ago, an_hour_ago))
    for path in (dead, tmp_path / "none.lock"):
        probe = [sys.executable, option, code.replace(named, str(path))]
        assert subprocess.run(probe, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("service", ["proxy", "learner"])
def test_the_commands_are_some(service: str, tmp_path: Path) -> None:
    command = [VARIABLE.sub(r"\3", word) for word in SERVICES[service]["command"]]
    done = understudy(*command, "--help", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
