"""Keys of the proxy's own."""

from __future__ import annotations

from fastapi import APIRouter

from proxy.auth import Role
from proxy.endpoints.access import Admin, InState
from proxy.endpoints.schemas import KeyAsked, KeyMade, KeyShown, ListOf
from proxy.keys import KeyWish, create_key, revoke_key
from storage.repositories.keys import list_keys

router = APIRouter()


@router.get("/keys")
def get_keys(state: InState, caller: Admin) -> ListOf[KeyShown]:
    """All keys, revoked ones included, newest first; what opens is shown only when it is made."""
    with state.database.read() as session:
        return ListOf(data=[KeyShown.model_validate(row) for row in list_keys(session)])


@router.post("/keys", status_code=201)
def make_key(asked: KeyAsked, state: InState, caller: Admin) -> KeyMade:
    """Make a key; in force on all workers within 5 s, on this one at once."""
    role = None if asked.role is None else Role[asked.role.upper()]
    token, row = create_key(state.database, state.cipher, KeyWish(**(asked.model_dump() | {"role": role})), caller.name)
    state.serving.refresh()
    return KeyMade(**KeyShown.model_validate(row).model_dump(), key=token)


@router.delete("/keys/{key_id}")
def end_key(key_id: str, state: InState, caller: Admin) -> KeyShown:
    """Revoke a key: refused on all workers within 5 s, on this one at once."""
    row = revoke_key(state.database, key_id, caller.name)
    state.serving.refresh()
    return KeyShown.model_validate(row)
