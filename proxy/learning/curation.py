"""`understudy export`: one task's calls out of the log into samples. Its heavy half is `router.learning.curation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.errors import Conflict
from proxy.settings import Settings
from router.contract import OutputContract
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.clusters import get_cluster

if TYPE_CHECKING:
    from router.learning.curation.findings import Recogniser
    from router.learning.curation.samples import Curated


def curate_cluster(
    database: Database, cipher: Cipher, settings: Settings, cluster_id: str, progress: Callable[[str], None]
) -> Curated:
    """Read a cluster's calls and make samples of them.

    Args:
        progress: told `stage: how far`.

    Raises:
        Conflict: the LLM's terms forbid it, what learning needs is not installed, or there is no such model of names.
        NotFound: there is no such cluster.
        DatabaseDown: nothing is lost.
    """
    if not settings.upstream_allows_training:
        raise Conflict(
            "UNDERSTUDY_UPSTREAM_ALLOWS_TRAINING is false: the LLM's terms forbid training on its answers, so no "
            "samples are made of them"
        )
    with database.read() as session:
        contract = OutputContract.from_json(get_cluster(session, cipher, cluster_id).contract)
    progress("loading the recognisers")
    try:  # takes seconds: what is refused, is refused before
        from proxy.learning.candidates import candidates_of, rules_of
        from router.learning.curation.curate import curate
        from router.learning.curation.reading import Reader, standard_recognisers
    except ImportError as error:
        raise Conflict(f"{error.name} is not installed; pip install 'understudy[train]'") from error
    reader = Reader([*standard_recognisers(), *_named_entities(settings.names_model)])
    with database.read() as session:
        rules = rules_of(session, cluster_id)
        candidates = candidates_of(session, cipher, cluster_id, progress)
    return curate(candidates, contract, reader, rules, lambda stage, share: progress(f"{stage}: {share:.0%}"))


def _named_entities(model: str | None) -> list[Recogniser]:
    """The operator's own recogniser of names, if any."""
    if not model:
        return []
    from router.learning.curation.names import NamedEntities

    try:
        return [NamedEntities.load(model)]
    except OSError as error:
        raise Conflict(f"UNDERSTUDY_NAMES_MODEL={model}: {' '.join(str(error).split())[:200]}") from error
