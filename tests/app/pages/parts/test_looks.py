"""The look of a pair: read from an address, written back, and never a reason to refuse a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.pages.parts.looks import Look, look_from, look_query
from app.services.pairs.drawing import TRACK_NAMES

LOOKS = st.builds(
    Look,
    colour=st.sampled_from(["scaled", "raw"]),
    track=st.sampled_from(TRACK_NAMES),
    mask_view=st.booleans(),
    diff=st.booleans(),
    beside=st.booleans(),
    at=st.one_of(st.none(), st.from_regex(r"(chosen|rejected)-(0|[1-9][0-9]{0,5})", fullmatch=True)),
)


@given(LOOKS)
def test_an_address_gives_back_its_look(look):
    written = {name: str(value) for name, value in look_query(look).items() if value is not None}
    assert look_from(written) == look


def test_the_usual_look_needs_no_word_in_the_address():
    assert set(look_query(Look()).values()) == {None}


def test_words_that_mean_nothing_are_passed_over():
    address = {"lane": "mood", "colour": "red", "view": "x", "diff": "yes", "at": 'chosen-1"><script>'}
    assert look_from(address) == Look()


def test_another_pair_keeps_the_look_but_not_the_token():
    assert Look(track="rank", at="chosen-4").of_another_pair() == Look(track="rank")
