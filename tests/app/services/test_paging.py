"""Cursors: what goes in comes out, and nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.services.paging import decode_cursor, encode_cursor, page_limit

keys = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()


@given(st.lists(keys, min_size=1, max_size=4))
def test_a_cursor_gives_back_its_values(values: list[int | float | str]) -> None:
    cursor = encode_cursor(*values)
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#")
    assert decode_cursor(cursor, [type(value) for value in values]) == values


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="start again without a cursor"):
        decode_cursor(text, [int])


@pytest.mark.parametrize("values", [("1",), (1, 2), (), (1.5,), (None,), (True,), (2**63,)])
def test_a_cursor_of_another_list_is_refused(values: tuple[int]) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor(encode_cursor(*values), [int])
    assert refused.value.code == "bad_cursor"


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_page_has_one_to_five_hundred_rows(limit: int) -> None:
    with pytest.raises(Invalid):
        page_limit(limit)
    assert page_limit(500) == 500
