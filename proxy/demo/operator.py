"""What somebody does who looks after the proxy: the admin API, and nothing else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from proxy.demo.servers import DemoFailed

POLL_SECONDS = 0.3


class Operator:
    """A client of the admin API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """What a GET says."""
        answer = self._client.get(path, params=parameters)
        return self._checked(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a POST says."""
        return self._checked(self._client.post(path, json=dict(body)))

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise DemoFailed(f"{answer.request.method} {answer.request.url.path} was refused: {answer.text}")
        shown: dict[str, Any] = answer.json()
        return shown

    def tasks(self, prompts: Mapping[str, str]) -> dict[str, str]:
        """Ids of tasks, each recognised as a person would: by a line of its prompt in the skeleton.

        Args:
            prompts: name → system prompt.
        """
        found: dict[str, str] = {}
        for cluster in self.get("/clusters")["data"]:
            skeleton = self.get(f"/clusters/{cluster['id']}")["skeleton"]
            for name, prompt in prompts.items():
                if prompt.splitlines()[0] in skeleton:
                    found.setdefault(name, cluster["id"])
        missing = [name for name in prompts if name not in found]
        if missing:
            raise DemoFailed(f"not found among the tasks in the log: {', '.join(missing)}")
        return found

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        """One task, with its history."""
        return self.get(f"/clusters/{cluster_id}")

    def stage(self, cluster_id: str) -> str | None:
        """The stage of the SLM on a task; None where the LLM answers alone."""
        promotion = self.cluster(cluster_id)["promotion"]
        return promotion["stage"] if promotion else None

    def await_log(self, calls: int) -> None:
        """Wait until the log holds so many calls."""
        await_that(lambda: self.get("/calls", limit=1)["total"] >= calls, 120, "the log")

    def run(self, wish: Mapping[str, Any], progress: Callable[[float], None] = lambda share: None) -> dict[str, Any]:
        """Ask for a run, and wait for its end.

        Args:
            progress: told which share of its stages is done.

        Raises:
            DemoFailed: it failed.
        """
        return self.follow(self.post("/runs", wish)["id"], progress)

    def follow(self, run_id: str, progress: Callable[[float], None] = lambda share: None) -> dict[str, Any]:
        """Wait for the end of a run; arguments and exceptions as of `run`."""
        while True:
            run = self.get(f"/runs/{run_id}")
            if run["status"] == "done":
                return run
            if run["status"] in ("failed", "cancelled"):
                raise DemoFailed(f"the run of kind {run['kind']} {run['status']}: {run['error']}")
            within = (run["progress"] or {}).get("share") or 0.0
            progress(len(run["stages"]) + within)
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def operator(base_url: str, token: str) -> Iterator[Operator]:
    """The operator of the proxy at `base_url`, until the end of the block."""
    with httpx.Client(
        base_url=base_url.removesuffix("/v1") + "/admin/v1",
        headers={"authorization": f"Bearer {token}"},
        timeout=90,
    ) as client:
        yield Operator(client)


def await_that(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until it is so.

    Raises:
        DemoFailed: it never was.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not get ready in {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
