"""Every metric, declared once; names, types and labels are the public contract.

Two ways to run. In a worker of `understudy serve` the supervisor has put `PROMETHEUS_MULTIPROC_DIR` into the
environment: values live in one memory-mapped file per process, and `render()` in any worker adds them all up, so totals
are right with N workers and survive a worker's death. Anywhere else (tests, an app run by hand) they live in memory.

The relay observes a call the moment it ends; the shipper adds what only reading the bodies can tell (tokens, money).
Labels come from enums, from the configuration, or from the active snapshot: never from a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from math import nan
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from proxy.errors import ServiceUnavailable
from proxy.wire.endpoint import Endpoint
from router.decision import Reason
from router.promotion import Promotion, Stage

if TYPE_CHECKING:
    from proxy.money.savings import Parts

SERVERS = ("llm", "slm")
COPY_KINDS = ("shadow", "audit")
OTHER_CLUSTER = "other"

# Why an attempt at an SLM ends with the LLM. The router gives the last two as well, before any attempt.
FALLBACK_REASONS = frozenset(
    {
        Reason.SLM_UNAVAILABLE, Reason.SLM_TIMEOUT, Reason.SLM_ERROR, Reason.OUTPUT_INVALID, Reason.LOW_CONFIDENCE,
        Reason.CONTEXT_TOO_LONG, Reason.UNSUPPORTED_FEATURE,
    }
)  # fmt: skip

# A cached classification takes 50 ms, a reasoning model minutes.
DURATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The promise is half a millisecond; the transformer encoder may take eight.
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class SpoolGauges(Collector):
    """The spool's size, measured when it is asked for: it must be right above all when the shipper is dead."""

    def __init__(self, usage: Callable[[], tuple[int, float]]) -> None:
        self._usage = usage

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Both gauges."""
        size_bytes, oldest_seconds = self._usage()
        yield GaugeMetricFamily(
            "understudy_spool_bytes", "Size of the calls that are logged but not yet in the database.", size_bytes
        )
        yield GaugeMetricFamily(
            "understudy_spool_oldest_seconds", "Age of the oldest call that is not yet in the database.", oldest_seconds
        )


class _Silent(Collector):
    """Metrics that no process has a sample of yet: their names, so that a look at a fresh proxy finds them."""

    def __init__(self, declared: CollectorRegistry, rendered: str) -> None:
        """
        Args:
            declared: this process' metrics.
            rendered: what all processes have samples of, as text.
        """
        self._declared, self._rendered = declared, rendered

    def collect(self) -> Iterator[Metric]:
        """Each without samples."""
        for family in self._declared.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if f"# TYPE {name} " not in self._rendered:
                family.samples = []
                yield family


class Metrics:
    """One process's view of all metrics. Make one per process: in multiprocess mode two would overwrite each other."""

    def __init__(self, spool_usage: Callable[[], tuple[int, float]] | None = None) -> None:
        """Declare everything, and start at zero whatever should be visible before the first call.

        Args:
            spool_usage: gives (bytes, age of the oldest in seconds); None leaves the spool's gauges out.
        """
        self.registry = registry = CollectorRegistry()
        self._spool = SpoolGauges(spool_usage) if spool_usage is not None else None
        self._multiprocess: bool = values.ValueClass._multiprocess

        self._calls = Counter(
            "understudy_calls_total", "Calls answered.", ["endpoint", "served_by", "status"], registry=registry
        )
        self._decisions = Counter(
            "understudy_decisions_total", "Calls by the reason of their decision.", ["reason"], registry=registry
        )
        self._duration = Histogram(
            "understudy_call_duration_seconds",
            "From a call's arrival to the last byte of its answer.",
            ["endpoint", "served_by"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._overhead = Histogram(
            "understudy_overhead_seconds",
            "Time in the proxy that was not spent waiting for an upstream.",
            buckets=OVERHEAD_BUCKETS,
            registry=registry,
        )
        self._first_token = Histogram(
            "understudy_first_token_seconds",
            "From a call's arrival to the first byte of its answer.",
            ["served_by"],
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "understudy_tokens_total",
            "Tokens, as the upstreams count them.",
            ["served_by", "direction"],
            registry=registry,
        )
        self._cost = Counter(
            "understudy_cost_usd_total",
            "What calls cost by who answered, and copies by their kind.",
            ["served_by"],
            registry=registry,
        )
        self._counterfactual = Counter(
            "understudy_counterfactual_cost_usd_total",
            "What the LLM would have cost for the calls that an SLM served.",
            registry=registry,
        )
        self._savings = Gauge(
            "understudy_savings_usd",
            "Counterfactual cost minus SLM, shadow, audit, wasted and training cost; may be negative.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._savings_part = Gauge(
            "understudy_savings_part_usd",
            "What the savings consist of: the counterfactual cost, and each cost that is subtracted from it.",
            ["part"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._unpriced = Counter(
            "understudy_unpriced_calls_total",
            "Calls whose model has no known price; they are in no cost total.",
            registry=registry,
        )
        self._fallbacks = Counter(
            "understudy_fallbacks_total", "Calls meant for an SLM that the LLM answered.", ["reason"], registry=registry
        )
        self._cluster_calls = Counter(
            "understudy_cluster_calls_total",
            "Calls of each discovered task.",
            ["cluster", "served_by"],
            registry=registry,
        )
        self._key_calls = Counter(
            "understudy_key_calls_total",
            "Calls by the name of the key that they came with; `none` without a key of the proxy's own.",
            ["key", "served_by"],
            registry=registry,
        )
        self._key_cost = Counter(
            "understudy_key_cost_usd_total",
            "What those calls cost, by who was paid.",
            ["key", "served_by"],
            registry=registry,
        )
        self._key_counterfactual = Counter(
            "understudy_key_counterfactual_cost_usd_total",
            "What the LLM would have cost for those of them that an SLM served.",
            ["key"],
            registry=registry,
        )
        self._disagreement = Gauge(
            "understudy_cluster_disagreement_ratio",
            "Share of the certified and audited conversations in which SLM and LLM disagree.",
            ["cluster"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._disagreement_bound = Gauge(
            "understudy_cluster_disagreement_bound",
            "Upper confidence bound of that share.",
            ["cluster"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._risk = Gauge(
            "understudy_risk",
            "Promised bound on served disagreement: UNDERSTUDY_RISK.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._promotion_stage = Gauge(
            "understudy_promotion_stage",
            "1 for the stage that a cluster's SLM is at.",
            ["cluster", "stage"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._in_doubt = Gauge(
            "understudy_promotion_in_doubt",
            "1 while the LLM answers a promoted cluster's calls, in doubt of its SLM.",
            ["cluster"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._lost = Counter(
            "understudy_calls_lost_total",
            "Calls that could not be logged (0 unless the disk is full).",
            registry=registry,
        )
        self._quarantined = Counter(
            "understudy_calls_quarantined_total",
            "Logged calls that the database refuses or whose bytes are damaged; they are in the spool's quarantine.",
            registry=registry,
        )
        self._copies = Counter(
            "understudy_copies_total",
            "Shadow and audit copies: those that were answered, and why the others were not, or not even made.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._slm_up = Gauge(
            "understudy_slm_up",
            "Whether the SLM server answers.",
            ["slm"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )

        # Children are looked up once: `labels()` formats, locks and hashes on every call.
        self._decision_of = {reason.value: self._decisions.labels(reason.value) for reason in Reason}
        self._fallback_of = {reason.value: self._fallbacks.labels(reason.value) for reason in FALLBACK_REASONS}
        self._duration_of = {
            (endpoint.value, server): self._duration.labels(endpoint.value, server)
            for endpoint in (Endpoint.CHAT, Endpoint.RESPONSES)
            for server in SERVERS
        }
        self._first_token_of = {server: self._first_token.labels(server) for server in SERVERS}
        self._calls_of = {
            (endpoint.value, server, 200): self._calls.labels(endpoint.value, server, "2xx")
            for endpoint in (Endpoint.CHAT, Endpoint.RESPONSES)
            for server in SERVERS
        }
        self._cluster_calls_of: dict[tuple[str, str], Counter] = {}
        self._promoted: set[str] = set()
        self._compared: set[str] = set()
        for kind in COPY_KINDS:
            self._copies.labels(kind, "answered")
            self._cost.labels(kind)
        for server in SERVERS:
            self._cost.labels(server)
            for direction in ("input", "cached_input", "output"):
                self._tokens.labels(server, direction)

    def observe_call(
        self,
        endpoint: str,
        served_by: str,
        status: int,
        reason: str,
        cluster: str | None,
        duration_s: float,
        overhead_s: float,
        first_token_s: float | None,
        *,
        fell_back: bool = False,
    ) -> None:
        """Count one call that has ended. On the hot path: 13 µs in memory-mapped mode.

        Args:
            endpoint: a value of `Endpoint`.
            served_by: `llm` or `slm`: who gave the answer that the client got.
            status: HTTP status; only its class becomes a label.
            reason: a value of `Reason`, or empty for a call that there was nothing to decide about.
            cluster: id of the matched cluster.
            duration_s: arrival → last byte.
            overhead_s: the part of it not spent waiting for an upstream.
            first_token_s: arrival → first byte of the answer; None when none was sent.
            fell_back: an SLM was tried, for a `reason` of `FALLBACK_REASONS` in vain.
        """
        calls = self._calls_of.get((endpoint, served_by, status))
        if calls is None:
            calls = self._calls.labels(endpoint, served_by, f"{status // 100}xx")
            self._calls_of[endpoint, served_by, status] = calls
        calls.inc()
        duration = self._duration_of.get((endpoint, served_by))
        if duration is None:
            duration = self._duration_of[endpoint, served_by] = self._duration.labels(endpoint, served_by)
        duration.observe(duration_s)
        self._overhead.observe(overhead_s)
        if first_token_s is not None:
            self._first_token_of[served_by].observe(first_token_s)
        if reason:
            self._decision_of[reason].inc()
            if fell_back:
                self._fallback_of[reason].inc()
        if cluster is not None:
            known = self._cluster_calls_of.get((cluster, served_by))
            if known is None:
                known = self._cluster_calls.labels(OTHER_CLUSTER, served_by)
            known.inc()

    def count_lost_call(self) -> None:
        """A call was served and could not be logged."""
        self._lost.inc()

    def count_quarantined_calls(self, calls: int) -> None:
        """Logged calls were set aside instead of shipped."""
        self._quarantined.inc(calls)

    def count_copy(self, kind: str, outcome: str) -> None:
        """A copy ended, or was not made."""
        self._copies.labels(kind, outcome).inc()

    def know_clusters(self, cluster_ids: Iterable[str]) -> None:
        """Give each of the active snapshot's clusters its series; a call of any other counts as `other`."""
        for cluster_id in cluster_ids:
            for server in SERVERS:
                if (cluster_id, server) not in self._cluster_calls_of:
                    self._cluster_calls_of[cluster_id, server] = self._cluster_calls.labels(cluster_id, server)

    def show_promotions(self, promotions: Mapping[str, Promotion]) -> None:
        """Show every cluster's stage, and doubt; a cluster that is no longer promoted goes to zero everywhere."""
        self._promoted.update(promotions)
        for cluster_id in self._promoted:
            current = promotions.get(cluster_id)
            for stage in Stage:
                shown = current is not None and current.stage is stage
                self._promotion_stage.labels(cluster_id, stage.value).set(1 if shown else 0)
            self._in_doubt.labels(cluster_id).set(1 if current is not None and current.in_doubt else 0)

    def show_risk(self, alpha: float) -> None:
        """Show what is promised."""
        self._risk.set(alpha)

    def show_disagreement(self, shown: Mapping[str, tuple[float, float]]) -> None:
        """Show each promoted task's disagreement and its bound; a task that has none any more shows not a number.

        Args:
            shown: cluster id → both, in [0, 1].
        """
        self._compared.update(shown)
        for cluster_id in self._compared:
            ratio, bound = shown.get(cluster_id, (nan, nan))
            self._disagreement.labels(cluster_id).set(ratio)
            self._disagreement_bound.labels(cluster_id).set(bound)

    def know_slm(self, slm: str) -> None:
        """Give an SLM server its series: 0 until a worker has seen it answer.

        Dated long ago, so that a worker that starts later does not hide what the others have seen.
        """
        self._slm_up.labels(slm)._value.set(0.0, timestamp=1.0)

    def show_slm(self, slm: str, up: bool) -> None:
        """Show whether the SLM server called `slm` in the settings answers."""
        self._slm_up.labels(slm).set(1 if up else 0)

    def add_tokens(self, served_by: str, *, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
        """Add a shipped call's tokens. Cached ones are a part of the input, so `input` holds only the others."""
        self._tokens.labels(served_by, "input").inc(max(input_tokens - cached_input_tokens, 0))
        self._tokens.labels(served_by, "cached_input").inc(cached_input_tokens)
        self._tokens.labels(served_by, "output").inc(output_tokens)

    def add_cost(self, served_by: str, usd: float) -> None:
        """Add what a server's answers cost."""
        self._cost.labels(served_by).inc(usd)

    def add_counterfactual(self, usd: float) -> None:
        """Add what the LLM would have cost for a call that an SLM served."""
        self._counterfactual.inc(usd)

    def count_key_call(
        self, key: str, served_by: str, usd: float, wasted_usd: float, counterfactual_usd: float
    ) -> None:
        """Add a shipped call to what its key's calls came to.

        Args:
            key: its name, which operators choose; a client can't.
            usd: cost of the answer.
            wasted_usd: cost of an SLM's answers that were not served.
            counterfactual_usd: what the LLM would have cost, if an SLM served it.
        """
        self._key_calls.labels(key, served_by).inc()
        self._key_cost.labels(key, served_by).inc(usd)
        self._key_cost.labels(key, "slm").inc(wasted_usd)
        self._key_counterfactual.labels(key).inc(counterfactual_usd)

    def show_savings(self, parts: Parts) -> None:
        """Show the net savings over the whole log, and what they consist of; below zero where SLMs cost more."""
        self._savings.set(parts.net_usd)
        for each in fields(parts):
            self._savings_part.labels(each.name.removesuffix("_usd")).set(getattr(parts, each.name))

    def count_unpriced_call(self) -> None:
        """A call's model has no known price."""
        self._unpriced.inc()

    def render(self) -> bytes:
        """All processes' metrics in Prometheus' text format. Reads files in multiprocess mode: call it in a thread.

        Raises:
            ServiceUnavailable: the files are gone.
        """
        text = self._render_all() if self._multiprocess else generate_latest(self.registry)
        if self._spool is not None:
            spool = CollectorRegistry()
            spool.register(self._spool)
            text += generate_latest(spool)
        return text

    def _render_all(self) -> bytes:
        registry = CollectorRegistry()
        try:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            text = generate_latest(registry)
            silent = CollectorRegistry()
            silent.register(_Silent(self.registry, text.decode()))
            return text + generate_latest(silent)
        except (ValueError, FileNotFoundError) as error:  # the collector's word for a directory that is not there
            raise ServiceUnavailable(
                "the metrics can't be read, their directory was deleted; restart `understudy serve`"
            ) from error
