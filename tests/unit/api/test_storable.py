"""Texts made fit for Postgres."""

import json

from hypothesis import given
from hypothesis import strategies as st

from keelway_api.storable import storable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=10,
)


def test_what_postgres_cannot_hold_is_replaced():
    assert storable({"a\0": ["\ud800", float("nan"), {"b": float("inf")}]}) == {"a\ufffd": ["?", None, {"b": None}]}


@given(JSON)
def test_whatever_comes_goes_as_strict_json_in_utf_8(value):
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)

    assert "\\u0000" not in text
    text.encode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_what_can_be_stored_stays_as_it_is(text):
    assert storable(text) == text
