"""Who takes part when a base model is chosen for a task: those that the SLM servers really have, cheapest first.

The catalogue's rule leaves out who can't do the task; whether one fits its GPU needs no rule, it is being served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.errors import Conflict, Unprocessable
from proxy.learning.selection import known_models
from proxy.learning.training import Method, failures_named, slm_server
from proxy.learning.workshop import Workshop
from proxy.slm.vllm import ServedModel, VllmServer
from router.learning.selection.bakeoff import BaseUnfit
from router.learning.selection.catalogue import OpenModel
from router.learning.selection.needs import Needs, needs_of
from router.learning.selection.rule import lacks
from router.learning.training.dataset import Dataset
from storage.repositories.calls import long_call_tokens


@dataclass(frozen=True, slots=True)
class Entrant:
    """A base model that takes part.

    Attributes:
        known: what the catalogue says of it, if anything.
        parameters: that a token passes through; None as long as nobody has counted.
    """

    served: ServedModel
    server: VllmServer
    known: OpenModel | None
    parameters: int | None = None

    @property
    def base(self) -> str:
        """Its directory as its server names it, or the hub's name."""
        assert self.served.root is not None
        return self.served.root


def find_entrants(
    workshop: Workshop, dataset: Dataset, method: Method, slm: str | None
) -> tuple[list[Entrant], list[str]]:
    """Ask the servers.

    Args:
        slm: the only server to ask; by default all.

    Returns:
        Who takes part, each base model once, and what is to be said of the others.

    Raises:
        Conflict: no SLM server is configured.
        NoSuchThing: none of that name is.
        Unprocessable: there is nobody left.
    """
    settings = workshop.settings
    if not settings.slm_url:
        raise Conflict("no SLM server is configured: set UNDERSTUDY_SLM_URL=name=http://host:port/v1")
    needs, known = _needs(workshop, dataset), known_models(settings)
    found: dict[str, Entrant] = {}
    left_out = []
    for name in [slm] if slm else settings.slm_url:
        server = slm_server(settings, name)
        try:
            served = server.base_models()
        except Conflict as error:
            left_out.append(f"left out: {error}")
            continue
        if not served:
            left_out.append(f"left out: the SLM server {name!r}, which names no base model")
        for model in served:
            entrant = Entrant(model, server, _in_catalogue(str(model.root), known))
            reasons = _unfit(entrant, needs, method)
            if reasons:
                left_out.append(f"left out: {entrant.base}: {'; '.join(reasons)}")
            else:
                found.setdefault(entrant.base, entrant)
    if not found:
        raise Unprocessable("; ".join(["there is no base model to train on", *left_out]))
    return list(found.values()), left_out


def by_cost(entrants: Sequence[Entrant]) -> tuple[list[Entrant], list[str]]:
    """Cheapest first, and what is to be said of those that nobody can count the parameters of.

    Raises:
        Conflict: what training needs is not installed.
    """
    counted, uncounted = [], []
    for entrant in entrants:
        try:
            parameters = entrant.known.token_parameters if entrant.known else parameters_of(entrant.base)
        except BaseUnfit as unfit:
            uncounted.append(f"left out: {entrant.base}: {unfit}")
        else:
            counted.append(replace(entrant, parameters=parameters))
    return sorted(counted, key=lambda each: (each.parameters, each.base)), uncounted


def parameters_of(base: str) -> int:
    """How many a base model has; it has to be on this machine, or to be had from the hub, as for training.

    Raises:
        BaseUnfit: it can't be trained.
        Conflict: what training needs is not installed.
    """
    try:
        with failures_named():
            from router.learning.training.base import open_base  # takes a second

            return open_base(base).parameters
    except Unprocessable as error:
        raise BaseUnfit(str(error)) from error


def _needs(workshop: Workshop, dataset: Dataset) -> Needs:
    with workshop.database.read() as session:
        longest = long_call_tokens(session, dataset.cluster_id)
    return needs_of(dataset.contract, longest or 0)


def _in_catalogue(base: str, known: Sequence[OpenModel]) -> OpenModel | None:
    """By its name on the hub, or that of its directory."""
    return next((model for model in known if base == model.name or Path(base).name == Path(model.name).name), None)


def _unfit(entrant: Entrant, needs: Needs, method: Method) -> list[str]:
    """Why a base model can't do the task, by what the catalogue and its server say."""
    reasons = []
    limit = entrant.served.max_context_tokens
    if limit is not None and needs.context_tokens > limit:
        reasons.append(f"calls of {needs.context_tokens:,} tokens don't fit the {limit:,} that its server takes")
    if entrant.known is not None:
        reasons += lacks(entrant.known, needs)
        if method != "full" and not entrant.known.lora:
            reasons.append("vLLM serves no LoRA adapters on it")
    return reasons
