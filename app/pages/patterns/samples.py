"""Ugly sample texts for /patterns and for measurements: what real responses bring sooner or later."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.services.pairs.made_up import made_up_side
from app.services.scorings.maps import SideView
from engine.rules import SegmentationRule
from engine.types import Side, Span


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that is hard to show, and why."""

    title: str
    text: str
    spans: tuple[Span, ...] = ()
    cut_bytes: bool = False
    """Whether tokens split characters, as byte-level tokenizers do with rare ones."""


SAMPLES = (
    Sample(
        "Running text with labelled errors",
        "The capital of Australia is Sydney, and it lies in the south-east. 7 + 8 = 15, so the sum is right; "
        "the Moon is made of cheese, which every child knows, but water boils at 100 °C at sea level.",
        (
            Span(28, 34, "wrong city", -1.0),
            Span(67, 77, "right sum", 1.0),
            Span(99, 127, "misconception", -1.0),
            Span(128, 150, "note", None),
        ),
    ),
    Sample(
        "Code, tabs and line breaks",
        "def mean(values):\n\ttotal = 0\n\n\tfor value in values:\n\t\ttotal += value  # <b>not</b> & bold\n"
        "\treturn total / len(values)\n\n```\nprint(mean([1, 2]))\n```\n",
    ),
    Sample(
        "Emoji, flags, combining marks, split into bytes",
        "Thumbs 👍🏽 up, family 👩‍👩‍👧‍👦, flag 🇨🇭🇯🇵, e\u0301clair, Z\u0351\u036balgo, नमस्ते, कि.",
        cut_bytes=True,
    ),
    Sample("Chinese", "水在海平面上一百摄氏度沸腾。澳大利亚的首都是悉尼,这是错误的说法;正确答案是堪培拉。"),
    Sample("Right to left", "عاصمة أستراليا هي سيدني، وهذا خطأ شائع. Canberra هي العاصمة. 7 + 8 = 15."),
    Sample("A token without end", "https://example.org/" + "averyveryverylongpath" * 12 + " end"),
    Sample(
        "Control characters and directions", "a\x1b[31mred\x1b[0m \u202eevil\u202c zero\u200bwidth\rcarriage"
    ),
    Sample("Nothing but the end", ""),
)
OTHER_WORDS = (
    ("Sydney", "Canberra"),
    ("every child", "nobody"),
    ("total", "sum"),
    ("Thumbs", "Hands"),
    ("🇯🇵", "🇫🇷"),
    ("悉尼", "墨尔本"),
    ("خطأ", "صحيح"),
    ("zero", "nought"),
)
"""What the rejected response of a sample says instead, so that there is something to compare."""


def sample_pair(sample: Sample, rule: SegmentationRule) -> list[SideView]:
    """A response that is hard to show beside one that says some of it otherwise."""
    text = sample.text
    for word, other in OTHER_WORDS:
        text = text.replace(word, other)
    sides: tuple[tuple[Side, Sample], ...] = (
        ("chosen", sample),
        ("rejected", Sample(sample.title, text, cut_bytes=sample.cut_bytes)),
    )
    return [sample_side(one, side, seed, rule) for seed, (side, one) in enumerate(sides, start=21)]


def sample_side(
    sample: Sample, side: Side = "chosen", seed: int = 1, rule: SegmentationRule | None = None
) -> SideView:
    """A response with made-up rewards, one in forty of them missing, cut for real."""
    offsets = token_offsets(sample)
    return made_up_side(sample.text, offsets, sample.spans, side, seed, rule or SegmentationRule())


def token_offsets(sample: Sample) -> list[tuple[int, int]]:
    """Tokens as a tokenizer makes them: a word with the space before it, long words in pieces of nine."""
    if not sample.cut_bytes:
        return [match.span() for match in re.finditer(r"\n|[^\S\n]?[^\s]{1,9}|\s", sample.text)]
    offsets = []
    for position, character in enumerate(sample.text):
        # A character of four bytes comes as three tokens that share its place.
        offsets.extend([(position, position + 1)] * (3 if ord(character) > 0xFFFF else 1))
    return offsets
