"""Free text judged by the LLM: `UNDERSTUDY_JUDGE_MODEL`, asked with the proxy's own key; in learning only."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import blake2b

import httpx
import orjson
import structlog

from proxy.logs import OncePerMinute
from proxy.money.pricing import LlmPrices
from proxy.proving.judge_budget import JudgeBudget
from proxy.proving.judge_prompt import DIFFERENT, PROMPT_DIGEST, SAME, judge_request
from proxy.settings import Settings
from proxy.wire.usage import Usage, read_usage
from router.contract import Answer
from storage.database import Database

log = structlog.get_logger()

TIMEOUT_SECONDS = 30.0
#: An LLM that is away, or asks for patience, is left alone for so long: nobody waits for it a hundred times over.
PAUSE_SECONDS = 10.0
#: Of both texts together. Longer ones are not judged.
MOST_CHARS = 60_000
_REMEMBERED = 10_000
_AWAY_STATUS = frozenset({401, 403, 404, 408, 429})


class LlmJudge:
    """Says whether two texts mean the same: only if it says so of them in either order; for any number of threads.

    An LLM prefers what stands first, or last (Zheng et al., arXiv 2306.05685): one order alone is no verdict for
    "same". One "different" is enough for the other. Verdicts are remembered by the texts' hash.
    """

    def __init__(self, settings: Settings, model: str, budget: JudgeBudget) -> None:
        self._model = model
        self._budget = budget
        self._prices = LlmPrices(settings.upstream_url)
        self._url = f"{settings.upstream_url.rstrip('/')}/chat/completions"
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {settings.upstream_api_key}"}, timeout=TIMEOUT_SECONDS
        )
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self._log_now = OncePerMinute()
        #: Why it could not be asked, the last time; None while it always could.
        self.away: str | None = None

    @property
    def name(self) -> str:
        """The model, and which prompt: what its error was measured under."""
        return f"{self._model}, prompt {PROMPT_DIGEST}"

    def says(self, reference: Answer, answer: Answer) -> bool | None:
        """Whether they mean the same; None where it did not say, or could not be asked."""
        for first, second in ((reference.text, answer.text), (answer.text, reference.text)):
            verdict = self._verdict(first, second)
            if verdict != SAME:
                return None if verdict is None else False
        return True

    def settle(self) -> None:
        """Write down what is spent."""
        self._budget.settle()

    def close(self) -> None:
        """Write down what is spent, and hang up."""
        self.settle()
        self._client.close()

    def _verdict(self, first: str, second: str) -> str | None:
        key = blake2b(orjson.dumps([first, second]), digest_size=16).digest()
        with self._lock:
            if key in self._remembered:
                return self._remembered[key]
        verdict = self._asked(first, second)
        if verdict is not None:
            with self._lock:
                self._remembered[key] = verdict
                if len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)
        return verdict

    def _asked(self, first: str, second: str) -> str | None:
        if len(first) + len(second) > MOST_CHARS:
            return None
        if time.monotonic() < self._resume_at:
            return None
        if not self._budget.is_left():
            self._is_away("UNDERSTUDY_COPY_USD_PER_DAY is spent, or can't be looked up")
            return None
        try:
            answer = self._client.post(self._url, json=judge_request(self._model, first, second))
        except httpx.HTTPError as error:
            self._is_away(f"{type(error).__name__}")
            return None
        if answer.status_code in _AWAY_STATUS or answer.status_code >= 500:
            self._is_away(f"status {answer.status_code}")
            return None
        body = _json(answer.content)
        usage = read_usage(body) or Usage()
        self._budget.spend(self._prices.price(self._model, usage, datetime.now(UTC)))
        return _read_verdict(body) if answer.status_code == 200 else None

    def _is_away(self, why: str) -> None:
        self.away = why
        self._resume_at = time.monotonic() + PAUSE_SECONDS
        if self._log_now(why):
            log.warning("judge.away", model=self._model, why=why)


def judge_of(settings: Settings, database: Database, cluster_id: str | None = None) -> LlmJudge | None:
    """The judge that the settings name; None where texts are compared by embedding.

    Args:
        cluster_id: the task that its cost is for.
    """
    if settings.judge_model is None:
        return None
    return LlmJudge(settings, settings.judge_model, JudgeBudget(database, settings.copy_usd_per_day, cluster_id))


def _json(content: bytes) -> dict[str, object]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _read_verdict(body: dict[str, object]) -> str | None:
    """The verdict of a completion; None for anything but the form that was asked for."""
    match body:
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            verdict = _json(content.encode(errors="replace")).get("verdict")
            return verdict if isinstance(verdict, str) and verdict in (SAME, DIFFERENT) else None
    return None
