"""JSON equality as the client reads it, and the places where two values differ."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.learning.proof.json_values import Unreadable, canonical, completed, differences, parse

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """The same value with all keys the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(each) for each in value] if isinstance(value, list) else value


@given(JSON)
def test_a_value_equals_itself_in_any_order_of_keys(value: Any) -> None:
    assert canonical(value) == canonical(shuffled(value))
    assert not list(differences(value, shuffled(value)))


@given(JSON, JSON)
def test_values_differ_somewhere_exactly_when_they_are_not_equal(left: Any, right: Any) -> None:
    there, back = list(differences(left, right)), list(differences(right, left))
    assert bool(there) == (canonical(left) != canonical(right))
    assert there == back


@given(JSON)
def test_every_pointer_to_a_difference_can_be_followed(value: Any) -> None:
    other = {"a/b~c": value}
    for place in differences(other, {"a/b~c": [value]}):
        assert place.startswith("/a~1b~0c")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", "1.0", True),
        ("0", "-0.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ("null", "false", False),
        ('"1"', "1", False),
        ("[1, 2]", "[2, 1]", False),
        ("[]", "{}", False),
        ('{"a": {"b": 1, "c": 2}}', '{"a": {"c": 2, "b": 1}}', True),
        ('"A"', '"a"', False),
    ],
)
def test_equality_is_that_of_json_and_not_of_python(left: str, right: str, same: bool) -> None:
    assert (canonical(parse(left)) == canonical(parse(right))) is same
    assert (list(differences(parse(left), parse(right))) == []) is same


@pytest.mark.parametrize("text", ["", "{", "nul", '{"a": NaN}', "```json\n{}\n```", "[" * 130 + "]" * 130, "\ud800"])
def test_what_a_client_could_not_parse_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


@given(JSON)
def test_without_a_schema_nothing_is_completed(value: Any) -> None:
    assert canonical(completed(value, {})) == canonical(value)
    assert canonical(completed(value, None)) == canonical(value)


@pytest.mark.parametrize(
    ("schema", "short", "full"),
    [
        ({"properties": {"n": {"type": "integer", "default": 5}}}, {}, {"n": 5}),
        ({"properties": {"n": {"type": ["integer", "null"]}}}, {}, {"n": None}),
        ({"properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}, {}, {"n": None}),
        ({"properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}}}, {}, {"n": None}),
        ({"items": {"properties": {"n": {"default": False}}}}, [{}], [{"n": False}]),
        ({"properties": {"o": {"properties": {"n": {"default": 1}}}}}, {"o": {}}, {"o": {"n": 1}}),
    ],
)
def test_saying_nothing_is_saying_the_default_or_null(schema: dict[str, Any], short: Any, full: Any) -> None:
    assert not list(differences(completed(short, schema), completed(full, schema)))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"n": {"type": ["integer", "null"], "default": 5}}},
        {"properties": {"n": {"type": "null"}}},
        {"properties": {"n": True}},
    ],
)
def test_null_is_a_value_where_leaving_out_means_something_else(schema: dict[str, Any]) -> None:
    assert list(differences(completed({"n": None}, schema), completed({}, schema))) == ["/n"]


def test_completing_can_not_outgrow_the_depth() -> None:
    deep: dict[str, Any] = {}
    schema = deep
    for _ in range(200):
        inner: dict[str, Any] = {}
        schema.update({"properties": {"a": inner}, "default": {}})
        schema = inner
    with pytest.raises(Unreadable):
        completed({}, deep)


@given(JSON)
def test_parsing_reads_what_was_written(value: Any) -> None:
    assert canonical(parse(orjson.dumps(value).decode())) == canonical(value)
