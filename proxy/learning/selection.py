"""`understudy models`: the catalogue, and what of it fits a task in the log; by `router.learning.selection`."""

from __future__ import annotations

from proxy.errors import Conflict, SettingsInvalid
from proxy.settings import PREFIX, Settings
from router.contract import OutputContract
from router.learning.selection.catalogue import CatalogueInvalid, OpenModel, load_catalogue
from router.learning.selection.needs import Hardware, needs_of
from router.learning.selection.rule import Selection, select
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.calls import long_call_tokens
from storage.repositories.clusters import get_cluster


def known_models(settings: Settings) -> tuple[OpenModel, ...]:
    """The catalogue with the operator's own models.

    Raises:
        SettingsInvalid: their file is malformed.
    """
    try:
        return load_catalogue(settings.model_catalogue)
    except CatalogueInvalid as error:
        raise SettingsInvalid(f"{PREFIX}MODEL_CATALOGUE: {error}") from error


def select_for_cluster(
    database: Database,
    cipher: Cipher,
    settings: Settings,
    cluster_id: str,
    hardware: Hardware,
    *,
    context_tokens: int | None = None,
    languages: frozenset[str] = frozenset(),
    licences: frozenset[str] | None = None,
) -> Selection:
    """What could do a task, by its contract and the length of its calls.

    Args:
        context_tokens: of a long call; read from the log by default.

    Raises:
        SettingsInvalid: the operator's catalogue is malformed.
        NotFound: there is no such cluster.
        Conflict: the log doesn't know how long the task's calls are.
        DatabaseDown: nothing is lost.
    """
    models = known_models(settings)
    with database.read() as session:
        contract = OutputContract.from_json(get_cluster(session, cipher, cluster_id).contract)
        longest = context_tokens or long_call_tokens(session, cluster_id)
    if longest is None:
        raise Conflict(f"cluster {cluster_id}: the log knows the length of none of its calls; say --context")
    return select(models, needs_of(contract, longest, languages, licences), hardware)
