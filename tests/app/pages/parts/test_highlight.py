"""The coloured text: every character once, in order, whatever tokens do to it."""

from __future__ import annotations

import html
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pages.parts import highlight as highlighting
from app.pages.parts.highlight import (
    MarkedResponse,
    _ringed,
    gutter_entry,
    highlight,
    plain,
    readable,
    visible,
)
from app.pages.patterns.samples import SAMPLES, Sample, token_offsets
from engine.colouring import Colouring
from engine.segmentation.segments import pivot_ranks
from engine.types import Segment, Span


def marked(text, offsets, values=None, segments=None, **more):
    values = np.zeros(len(offsets)) if values is None else np.array(values, dtype=float)
    segments = (Segment(0, len(offsets), 1, 0.5, True),) if segments is None else segments
    return MarkedResponse(
        text=text,
        starts=[start for start, _ in offsets],
        ends=[end for _, end in offsets],
        levels=Colouring(1.0).levels(values),
        segments=segments,
        ranks=pivot_ranks(segments),
        **more,
    )


def pieces_of(text, offsets):
    return highlighting.pieces_of(text, [start for start, _ in offsets], [end for _, end in offsets], False)


def text_of(markup):
    """What a reader sees: gutter, EOS and tags taken away, escapes undone."""
    without_gutter = re.sub(r"<b class=g>.*?</b>", "", str(markup))
    without_codes = re.sub(
        r'<u class=code data-c="U\+([0-9A-F]+)"></u>', lambda m: chr(int(m.group(1), 16)), without_gutter
    )
    return html.unescape(re.sub(r"<[^>]*>", "", without_codes))


def test_the_class_says_sign_and_strength():
    shown = str(highlight(marked("ab", [(0, 1), (1, 2)], [1.0, -0.5])))
    assert "<i class=b10>a</i><i class=b-5>b</i>" in shown


def test_a_missing_reward_is_marked_and_is_not_zero():
    shown = str(highlight(marked("ab", [(0, 1), (1, 2)], [np.nan, 0.0])))
    assert "<i class=q>a</i><i>b</i>" in shown


def test_markup_of_the_response_is_escaped():
    shown = str(highlight(marked("<b>&\"'", [(0, 3), (3, 6)])))
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_characters_that_turn_or_hide_text_are_written_out():
    assert visible("a\u202eb\x1b") == 'a<u class=code data-c="U+202E"></u>b<u class=code data-c="U+001B"></u>'


def test_tokens_that_split_a_character_are_one_piece():
    pieces = pieces_of("a👍b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)])
    assert pieces.first == [0, 1, 4]
    assert pieces.tokens == [1, 3, 1]
    shown = str(highlight(marked("a👍b", [(0, 1), (1, 2), (1, 2), (2, 3)], [0, 0.2, -1, 0])))
    assert "<i class=b-10 data-n=2>👍</i>" in shown


@pytest.mark.parametrize("text", ["e\u0301", "👍🏽", "👩\u200d👧", "🇨🇭", "कि"])
def test_marks_stay_with_what_they_belong_to(text):
    offsets = [(index, index + 1) for index in range(len(text))]
    assert pieces_of(text, offsets).first == [0]


def test_two_flags_are_two_pieces():
    offsets = [(index, index + 1) for index in range(4)]
    assert pieces_of("🇨🇭🇯🇵", offsets).first == [0, 2]


def test_a_pivot_has_a_ring_with_its_rank_and_a_candidate_a_faint_one():
    segments = (Segment(0, 1, 1, 1.0, True), Segment(1, 2, -1, -1.0, False), Segment(2, 4, 1, 0.1, True))
    response = marked("abcd", [(0, 1), (1, 2), (2, 3), (3, 4)], segments=segments, candidates=[3])
    shown = str(highlight(response))
    assert "<i class=p><em data-p=1>b</em></i>" in shown
    assert "<i class=p><em data-p=2>c</em></i>" in shown
    assert "<i class=c>d</i>" in shown


def test_a_candidate_that_stayed_within_the_band_is_marked_apart():
    response = marked("abc", [(0, 1), (1, 2), (2, 3)], candidates=[1, 2], refused=[2])
    shown = str(highlight(response))
    assert "<i class=c>b</i>" in shown
    assert "<i class=x>c</i>" in shown


def test_what_differs_is_one_stretch_however_many_tokens_it_has():
    differing = [False, True, True, False, True]
    response = marked("abcd", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4)], differing=differing, eos="</s>")
    shown = str(highlight(response))
    assert "<span class=d><i>b</i><i>c</i></span></span><span class=s><i>d</i></span>" in shown
    assert shown.count("class=d") == 1, "the end is no text"


def test_a_character_differs_where_any_of_its_tokens_does():
    response = marked("a👍", [(0, 1), (1, 2), (1, 2)], differing=[False, False, True])
    assert "<span class=d><i data-n=2>👍</i>" in str(highlight(response))


def test_a_pivot_inside_a_joined_piece_is_shown_on_the_piece():
    segments = (Segment(0, 2, 1, 1.0, True), Segment(2, 3, -1, -1.0, False))
    shown = str(highlight(marked("a👍", [(0, 1), (1, 2), (1, 2)], segments=segments)))
    assert "<i class=p data-n=2><em data-p=1>👍</em></i>" in shown
    assert '<span class="s m">' in shown


def test_a_masked_segment_is_marked_beyond_colour():
    segments = (Segment(0, 1, 1, 1.0, True), Segment(1, 2, -1, -0.25, False, True))
    shown = str(highlight(marked("ab", [(0, 1), (1, 2)], segments=segments)))
    assert '<span class="s m"><i class=p><em data-p=1>b</em></i></span>' in shown
    assert "≠−0.25 ✕" in shown
    assert "+1.0 ✓" in shown


def test_many_short_segments_share_an_entry_of_the_gutter():
    entry = gutter_entry([Segment(t, t + 1, 1, t / 10, t % 2 == 0) for t in range(4)])
    assert "2✓ 2✕" in entry
    assert "0…+0.30" in entry


def test_a_segment_without_any_reward_says_so():
    assert "–" in gutter_entry([Segment(0, 1, 0, float("nan"), True)])


def test_the_end_is_a_mark_of_its_own_with_its_own_state():
    segments = (Segment(0, 2, -1, -1.0, False),)
    response = marked("a", [(0, 1), (1, 1)], [0, 1], segments, eos="</s>", eos_kept=True)
    assert '<span class=s><i class="b10 e">&lt;/s&gt;</i></span></div>' in str(highlight(response))


def test_a_labelled_span_wraps_the_tokens_it_touches():
    spans = (Span(1, 3, "wrong <fact>", -1.0),)
    offsets = [(0, 1), (1, 2), (2, 3), (3, 4)]
    shown = str(highlight(marked("abcd", offsets, spans=spans)))
    assert (
        '<i>a</i></span><span class=s><span class="l w" title="wrong &lt;fact&gt;"><i>b</i><i>c</i>' in shown
    )
    assert "</span></span><span class=s><i>d</i>" in shown


def test_a_label_is_shown_as_words():
    assert readable("wrong_city") == "wrong city"
    assert 'title="wrong city"' in plain("Rome", [Span(0, 4, "wrong_city", -1.0)])


def test_a_pivot_of_a_far_rank_has_a_ring_without_a_number():
    assert _ringed(" so", 99) == " <em data-p=99>so</em>"
    assert _ringed(" so", 100) == " <em>so</em>"


def test_overlapping_spans_share_a_label():
    spans = (Span(0, 2, "one", 1.0), Span(0, 2, "two", -1.0))
    assert 'class="l w" title="one · two"' in str(highlight(marked("ab", [(0, 2)], spans=spans)))


def test_a_long_text_falls_into_blocks_at_its_line_breaks():
    line = "word " * 20 + "\n"
    text = line * 12
    offsets = token_offsets(Sample("lines", text))
    shown = str(highlight(marked(text, offsets)))
    assert shown.count("<div class=t>") == 3
    assert text_of(shown) == text


def test_a_text_without_line_breaks_falls_into_blocks_too():
    text = "word " * 2000
    shown = highlight(marked(text, token_offsets(Sample("long", text))))
    assert str(shown).count("<div class=t>") == 4
    assert text_of(shown) == text


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.title)
def test_every_character_of_a_hard_text_is_shown_once(sample):
    response = marked(sample.text, token_offsets(sample), spans=sample.spans)
    assert text_of(highlight(response)) == sample.text
    assert text_of(plain(sample.text, sample.spans)) == sample.text


@given(st.data())
def test_the_text_survives_any_tokens_segments_and_spans(data):
    text = data.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)) - {len(text)})
    edges = [0, *cuts, len(text)]
    offsets = [*pairwise(edges), (len(text), len(text))]
    turns = sorted(data.draw(st.sets(st.integers(1, len(offsets) - 1))))
    borders = [0, *turns, len(offsets)]
    segments = [
        Segment(start, end, 1, data.draw(st.floats(-3, 3)), data.draw(st.booleans()))
        for start, end in pairwise(borders)
    ]
    spans = [
        Span(
            start,
            start + data.draw(st.integers(1, 9)),
            "label",
            data.draw(st.sampled_from([-1.0, 1.0, None])),
        )
        for start in data.draw(st.lists(st.integers(0, len(text)), max_size=3))
    ]
    values = data.draw(st.lists(st.floats(-2, 2), min_size=len(offsets), max_size=len(offsets)))
    differing = data.draw(st.lists(st.booleans(), min_size=len(offsets), max_size=len(offsets)))
    more = {"spans": spans, "eos": "</s>", "candidates": [0], "refused": [1], "differing": differing}
    shown = highlight(marked(text, offsets, values, segments, **more))
    assert text_of(shown) == text + "</s>"
    for tag in ("span", "div", "i", "b"):
        assert len(re.findall(rf"<{tag}[ >]", shown)) == shown.count(f"</{tag}>")
