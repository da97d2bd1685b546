"""Lines and sentences, from characters to tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS
from engine.segmentation.segmenters import clause, sentence, step
from engine.segmentation.segmenters.clause import Clause
from engine.segmentation.segmenters.sentence import Sentence
from engine.segmentation.segmenters.step import Step


def rows_of(*tokenised: list[str], eos: bool = False) -> Rows:
    """Rows from token texts; an EOS stands behind the text."""
    offsets, starts = [], [0]
    for tokens in tokenised:
        at = 0
        for token in tokens:
            offsets.append((at, at + len(token)))
            at += len(token)
        if eos:
            offsets.append((at, at))
        starts.append(len(offsets))
    texts = ["".join(tokens) for tokens in tokenised]
    count = len(tokenised)
    rewards = np.zeros(len(offsets))
    return Rows(rewards, np.array(starts), np.zeros(count), 1.0, texts, np.array(offsets).reshape(-1, 2))


def starts_of(cuts: np.ndarray) -> list[int]:
    found: list[int] = np.flatnonzero(cuts).tolist()
    return found


def test_a_step_ends_with_the_token_that_contains_the_line_break() -> None:
    rows = rows_of(["2", "+2", ".\n", "So", " 4", "\n", "!"])
    assert starts_of(step.cuts(rows, Step())) == [0, 3, 6]


def test_blank_lines_belong_to_the_step_before_and_indentation_to_the_one_after() -> None:
    assert starts_of(step.cuts(rows_of(["a", "\n", " ", "\r\n", "  ", "b"]), Step())) == [0, 4]


def test_a_line_break_at_the_end_starts_nothing() -> None:
    assert starts_of(step.cuts(rows_of(["a", "\n"], eos=True), Step())) == [0]


def test_the_eos_takes_the_last_unit() -> None:
    assert starts_of(step.cuts(rows_of(["a", "\n", "b"], eos=True), Step())) == [0, 2]


def test_a_sentence_begins_with_the_token_that_holds_its_space() -> None:
    rows = rows_of(["Dr", ".", " Smith", " left", ".", " He", " paid", " $3", ".50", "!", " Why", "?"])
    assert starts_of(sentence.cuts(rows, Sentence())) == [0, 5, 10]


def test_lines_end_sentences_and_keep_their_breaks() -> None:
    rows = rows_of(["One", "\n\n", "two", ".", "\n", "Three"])
    assert starts_of(sentence.cuts(rows, Sentence())) == [0, 2, 5]


def test_tokens_of_one_code_point_stay_together() -> None:
    rows = rows_of(["Yes.", " 🎉", " No."])
    offsets = np.array([(0, 4), (4, 6), (5, 6), (5, 6), (6, 10)])
    rows = Rows(np.zeros(5), np.array([0, 5]), np.zeros(1), 1.0, rows.texts, offsets)
    assert starts_of(sentence.cuts(rows, Sentence()))[:2] == [0, 1]


def test_chinese_sentences_have_their_own_rules() -> None:
    assert starts_of(sentence.cuts(rows_of(list("你好。再见。")), Sentence(language="zh"))) == [0, 3]


def test_each_row_is_cut_on_its_own() -> None:
    rows = rows_of(["A\n", "b"], [], ["c", "\n", "d"])
    assert starts_of(step.cuts(rows, Step())) == [0, 1, 2, 4]


def test_a_clause_ends_behind_its_punctuation_and_numbers_stay_whole() -> None:
    rows = rows_of(
        ["It", " costs", " 1,000.5", ",", " he", " said", ".", '"', " No", "\n", "So", " be", " it", "!"]
    )
    assert starts_of(clause.cuts(rows, Clause())) == [0, 4, 8, 10]


def test_marks_of_chinese_need_no_space_behind_them() -> None:
    assert starts_of(clause.cuts(rows_of(["天", "，", "地", "。", "人"], eos=True), Clause())) == [0, 2, 4]


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="choose one of am, ar"):
        sentence.cuts(rows_of(["a"]), Sentence(language="xx"))


@pytest.mark.parametrize("name", ["step", "clause", "sentence"])
def test_a_text_is_needed(name: str) -> None:
    rows = Rows(np.zeros(2), np.array([0, 2]), np.zeros(1), 1.0)
    segmenter = SEGMENTERS[name]
    with pytest.raises(RequestError, match=f"`{name}` segmenter needs `text` and `offsets`"):
        segmenter.cut(rows, segmenter.fields())


@settings(deadline=None, max_examples=50)
@given(st.text(st.sampled_from("ab. ?!\n\r\t\"'(1)ȸ∯♨ᓴ&。é🎉"), min_size=1, max_size=200))
def test_any_text_is_cut_at_characters_inside_it(text: str) -> None:
    rows = rows_of(list(text), eos=True)
    for found in (starts_of(step.cuts(rows, Step())), starts_of(sentence.cuts(rows, Sentence()))):
        assert found[0] == 0
        assert found[-1] < len(text)


def test_a_very_long_line_is_read_in_pieces() -> None:
    text = "A short sentence here. " * 2000
    rows = rows_of(["A", " short", " sentence", " here."] + [" A", " short", " sentence", " here."] * 1999)
    assert len(text) > sentence.LONGEST_PIECE
    assert starts_of(sentence.cuts(rows, Sentence())) == list(range(0, 8000, 4))
