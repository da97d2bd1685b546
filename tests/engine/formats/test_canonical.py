"""Pairs survive being written and read back, whatever they hold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import DataError
from engine.formats.canonical import read_pairs, write_pairs
from engine.formats.pairs import pair_to_row
from engine.formats.reading import read
from engine.formats.rows import row_to_pair
from engine.formats.streams import MAX_ROW_BYTES
from engine.turns import text_of
from engine.types import Message, PreferencePair, Response, Span

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
SOME_TEXT = TEXT.filter(bool)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def responses(draw: st.DrawFn, *, in_turns: bool = False) -> Response:
    text = draw(SOME_TEXT)
    thoughts = st.fixed_dictionaries({"reasoning_content": SOME_TEXT})
    turns = (Message("assistant", text, draw(thoughts)),) if in_turns and draw(st.booleans()) else ()
    starts = st.integers(0, len(text) - 1)
    span = starts.flatmap(
        lambda start: st.builds(
            Span, st.just(start), st.integers(start + 1, len(text)), SOME_TEXT, st.none() | FINITE
        )
    )
    rewards = draw(st.none() | st.lists(st.just(math.nan) | FINITE, min_size=1, max_size=4))
    offsets = None
    if rewards is not None and draw(st.booleans()):
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), min_size=len(rewards), max_size=len(rewards))))
        offsets = tuple((cut, draw(st.integers(cut, len(text)))) for cut in cuts)
    logprobs: list[list[float]] = [[], []]
    if offsets is not None and draw(st.booleans()):
        one_each = st.lists(st.just(math.nan) | FINITE, min_size=len(offsets), max_size=len(offsets))
        logprobs = [draw(one_each), draw(one_each)]
        rewards = draw(st.sampled_from([None, rewards]))
    spans = draw(st.none() | st.lists(span, max_size=3))
    return Response(
        text_of(turns) if turns else text,
        None if spans is None else tuple(spans),
        None if rewards is None else tuple(rewards),
        offsets,
        *(tuple(values) or None for values in logprobs),
        turns=turns,
    )


@st.composite
def pairs(draw: st.DrawFn) -> PreferencePair:
    others = st.dictionaries(st.sampled_from(["name", "thinking"]), SOME_TEXT, max_size=2)
    messages = st.lists(st.builds(Message, SOME_TEXT, TEXT, others), min_size=1, max_size=3).map(tuple)
    prompt = draw(TEXT | messages)
    response = st.none() | responses(in_turns=not isinstance(prompt, str))
    chosen, rejected = draw(st.tuples(response, response).filter(any))
    return PreferencePair(
        draw(SOME_TEXT), prompt, chosen, rejected, draw(st.dictionaries(TEXT, JSON, max_size=3))
    )


def same(first: PreferencePair, second: PreferencePair) -> bool:
    """Equality in which NaN equals itself, as `repr` sees it."""
    return repr(first) == repr(second)


@given(pairs())
def test_a_pair_becomes_a_row_and_the_same_pair_again(pair: PreferencePair) -> None:
    assert same(row_to_pair(pair_to_row(pair)), pair)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(pairs(), max_size=5), st.sampled_from(["", ".gz", ".zst"]))
def test_a_file_gives_back_what_was_written(
    tmp_path: Path, written: list[PreferencePair], ending: str
) -> None:
    path = tmp_path / f"pairs.jsonl{ending}"
    assert write_pairs(path, written) == len(written)
    found = list(read_pairs(path))
    assert len(found) == len(written)
    assert all(map(same, found, written))


def test_reading_starts_at_any_position(tmp_path: Path) -> None:
    some = [PreferencePair(str(number), "", Response("a"), Response("b")) for number in range(10)]
    write_pairs(tmp_path / "pairs.jsonl", some)
    assert list(read_pairs(tmp_path / "pairs.jsonl", start=7)) == some[7:]
    assert list(read_pairs(tmp_path / "pairs.jsonl", start=10)) == []
    assert list(read(tmp_path / "pairs.jsonl")) == some


def test_a_row_that_json_makes_larger_is_still_read(tmp_path: Path) -> None:
    pair = PreferencePair("a", "", Response("\n" * (MAX_ROW_BYTES - 100)), None)
    write_pairs(tmp_path / "pairs.jsonl", [pair])
    assert list(read_pairs(tmp_path / "pairs.jsonl")) == [pair]


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    some = [PreferencePair("a", "", Response("a"), None, {"b": 1})]
    for ending in ("", ".gz", ".zst"):
        for name in ("one", "two"):
            write_pairs(tmp_path / f"{name}.jsonl{ending}", some)
        first, second = (tmp_path / f"{name}.jsonl{ending}" for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_a_value_without_a_json_form_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    pair = PreferencePair("a", "", Response("a"), None, {"odd": object()})
    with pytest.raises(DataError, match="Row `a` cannot be written as JSON"):
        write_pairs(tmp_path / "pairs.jsonl", [pair])
    assert not list(tmp_path.iterdir())


def test_a_file_cut_off_in_the_middle_is_noticed(tmp_path: Path) -> None:
    some = [PreferencePair(str(number), "", Response("a" * 50), None) for number in range(100)]
    for ending, cut in (("", 3), (".gz", 30), (".zst", 30)):
        path = tmp_path / f"pairs.jsonl{ending}"
        write_pairs(path, some)
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(DataError, match="cut off"):
            list(read_pairs(path))
