import json

from hypothesis import given
from hypothesis import strategies as st

from storage.bodies import Packer, split
from storage.cipher import Cipher

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(json_values, max_size=5),
        "tools": json_values,
        "input": json_values,
        "x": json_values,
    },
)


@given(bodies, st.sampled_from([None, 1]), st.booleans())
def test_the_pieces_of_any_json_body_together_are_the_body(body: dict, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert b"".join(piece for piece, _ in split(raw)) == raw


@given(st.binary(max_size=200))
def test_the_pieces_of_any_bytes_together_are_the_bytes(raw: bytes) -> None:
    assert b"".join(piece for piece, _ in split(raw)) == raw


def test_every_message_and_the_tools_are_pieces_of_their_own() -> None:
    long = "x" * 60
    raw = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": long}, {"a": long}], "tools": [long]}
    ).encode()
    assert [piece for piece, shared in split(raw) if shared] == [
        json.dumps({"role": "user", "content": long}).encode(),
        json.dumps({"a": long}).encode(),
        json.dumps([long]).encode(),
    ]


def test_a_history_sent_again_adds_only_its_new_message() -> None:
    packer = Packer(Cipher(b"k" * 32), {})
    stored: dict[bytes, bytes] = {}
    history = [{"role": "user", "content": f"message {i} " * 10} for i in range(20)]
    packer.pack_body(json.dumps({"messages": history[:19]}).encode(), stored.__setitem__)
    before = len(stored)
    body = json.dumps({"messages": history}).encode()
    packed = packer.pack_body(body, stored.__setitem__)
    assert len(stored) == before + 1
    assert packer.unpack_body(packed, stored.__getitem__) == body
