"""deploy/Dockerfile: its install step, done here with what its COPY lines name and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment_with

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COPIED = [
    source
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for source in sources.split()
]


def test_what_is_copied_is_what_the_build_may_see() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert [line for line in ignored if line.startswith("!")] == [f"!{source}" for source in COPIED]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product, installed without its dependencies; the folder that holds its packages."""
    source, site = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("site")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def test_no_file_of_the_packages_is_left_behind(installed: Path) -> None:
    packages = [ROOT / name for name in COPIED if (ROOT / name).is_dir()]
    found = [path for package in packages for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files = [path.relative_to(ROOT) for path in found]
    assert Path("storage/migrations/script.py.mako") in files
    assert [file for file in files if not (installed / file).is_file()] == []


def test_the_command_runs_and_makes_its_database(installed: Path, tmp_path: Path) -> None:
    paths = {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    environment = environment_with(tmp_path / "data") | paths
    upgrade = [sys.executable, str(installed / "bin" / "understudy"), "db", "upgrade"]
    done = subprocess.run(upgrade, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "understudy.db").is_file()
