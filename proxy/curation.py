"""`understudy export`: one task's calls out of the log into samples. Its heavy half is `router.learning.curation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.errors import Conflict
from proxy.settings import Settings
from router.contract import OutputContract
from storage.cipher import Cipher
from storage.database import Database
from storage.models import Call
from storage.repositories.calls import StoredCall, iter_calls
from storage.repositories.clusters import get_cluster
from storage.repositories.keys import origins_without_training

if TYPE_CHECKING:
    from router.learning.curation.samples import Candidate, Curated


def curate_cluster(
    database: Database, cipher: Cipher, settings: Settings, cluster_id: str, progress: Callable[[str], None]
) -> Curated:
    """Read a cluster's calls and make samples of them.

    Args:
        progress: told `stage: how far`.

    Raises:
        Conflict: the LLM's terms forbid it, or what learning needs is not installed.
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
        forbidden = origins_without_training(session)
    progress("loading the recognisers")
    try:  # takes seconds: what is refused, is refused before
        from router.learning.curation.curate import curate
        from router.learning.curation.reading import Reader, standard_recognisers
        from router.learning.curation.samples import Rules
    except ImportError as error:
        raise Conflict(f"{error.name} is not installed; pip install 'understudy[train]'") from error
    reader = Reader(standard_recognisers())
    candidates = []

    def count(damaged: Call) -> None:
        candidates.append(candidate_of(StoredCall(damaged, None, None, ())))

    with database.read() as session:
        stored_calls = iter_calls(session, cipher, cluster_id=cluster_id, on_damaged=count)
        for number, stored in enumerate(stored_calls, 1):
            candidates.append(candidate_of(stored))
            if number % 1000 == 0:
                progress(f"reading the log: {number} calls")
    rules = Rules(forbidden_origins=forbidden)
    return curate(candidates, contract, reader, rules, lambda stage, share: progress(f"{stage}: {share:.0%}"))


def candidate_of(stored: StoredCall) -> Candidate:
    """A logged call as curation takes it."""
    from proxy.learning import logged_call
    from router.learning.curation.samples import Candidate

    row = stored.row
    return Candidate(
        call=logged_call(stored) if stored.request_body else None,
        origin=row.origin.hex(),
        upstream=row.upstream,
        session=row.session or "",
        served_by=row.served_by,
        redacted=row.log == "redacted",
    )
