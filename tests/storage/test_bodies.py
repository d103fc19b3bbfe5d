import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from storage.bodies import Bodies, Template, join, split

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


@given(bodies)
def test_a_template_and_its_shared_pieces_together_are_the_body(body: dict) -> None:
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    shared: list[bytes] = []
    template: Template = []
    for piece, is_shared in split(raw):
        template.append(len(shared) if is_shared else piece)
        shared += [piece] if is_shared else []
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(Bodies(template, None, [b""])), type=Bodies)
    assert stored.request is not None
    assert join(stored.request, dict(enumerate(shared))) == raw
    assert stored.references == set(range(len(shared)))
