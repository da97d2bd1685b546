import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError, ModelError
from engine.tokens import TokenisedResponse, align_values, common_prompt, cover, decode, fit, tokenise
from engine.types import Message, PreferencePair, Response
from tests.engine.tiny_models import byte_tokenizer

TOKENIZER = byte_tokenizer()
PLAIN = byte_tokenizer(bos=False, eos=False)
CHAT = byte_tokenizer(chat=True)


def pair(prompt="The sky", chosen=" is blue.", rejected=" is green.", key="r1"):
    response = lambda text: None if text is None else Response(text)  # noqa: E731
    return PreferencePair(key, prompt, response(chosen), response(rejected))


def tokens(*pairs, tokenizer=TOKENIZER, append_eos=True, most=1000):
    return tokenise(pairs, tokenizer, append_eos=append_eos, max_response_tokens=most)


def test_both_sides_continue_the_same_prompt():
    chosen, rejected = tokens(pair())
    assert chosen.prompt.tolist() == rejected.prompt.tolist()
    assert chosen.prompt[0] == TOKENIZER.bos_token_id
    assert TOKENIZER.decode(chosen.ids[:-1]) == " is blue."
    assert (chosen.side, rejected.side) == ("chosen", "rejected")


def test_the_eos_stands_after_the_text():
    chosen, _ = tokens(pair())
    assert chosen.ids[-1] == TOKENIZER.eos_token_id
    assert chosen.offsets[-1].tolist() == [9, 9]
    assert chosen.eos == "</s>"


def test_an_eos_in_the_text_is_not_doubled():
    (one,) = tokens(pair(chosen=" yes</s>", rejected=None))
    assert one.ids.tolist().count(TOKENIZER.eos_token_id) == 1
    assert one.eos == "</s>"


@pytest.mark.parametrize(("tokenizer", "append"), [(TOKENIZER, False), (PLAIN, True)])
def test_there_may_be_no_eos(tokenizer, append):
    chosen, _ = tokens(pair(), tokenizer=tokenizer, append_eos=append)
    assert chosen.eos is None
    assert chosen.offsets[-1].tolist()[1] == 9


def test_an_empty_prompt_is_the_bos_where_there_is_one():
    assert tokens(pair(prompt=""))[0].prompt.tolist() == [TOKENIZER.bos_token_id]
    assert tokens(pair(prompt=""), tokenizer=PLAIN)[0].prompt.tolist() == []


def test_a_bos_in_the_prompt_is_not_doubled():
    for one in tokens(pair(prompt="<s>The sky")):
        assert one.prompt.tolist() == tokens(pair())[0].prompt.tolist()


def test_tokens_of_one_character_share_its_offsets():
    one = tokens(pair(chosen="a😀b", rejected=None), tokenizer=byte_tokenizer(merges=0))[0]
    assert one.offsets.tolist() == [[0, 1], *[[1, 2]] * 4, [2, 3], [3, 3]]


def test_a_token_across_the_seam_is_the_responses_and_the_text_is_read_as_it_stands():
    chosen, rejected = tokens(pair(prompt="The sk", chosen="y is", rejected=" is"))
    for one in (chosen, rejected):
        text = f"The sk{one.response.text}"
        assert [*one.prompt, *one.ids[:-1]] == TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(chosen.prompt[1:]) == "The"
    assert TOKENIZER.decode(chosen.ids[:-1]) == " sky is"
    assert chosen.offsets[0].tolist() == [0, 1]
    assert chosen.offsets[-1].tolist() == [4, 4]
    assert common_prompt([chosen, rejected]).tolist() == chosen.prompt.tolist()


TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\té́漢😀🏳️‍🌈")), min_size=1, max_size=40
)


@given(prompt=st.one_of(st.just(""), TEXTS), text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_offsets_cover_the_text(prompt, text):
    for one in tokens(pair(prompt=prompt, chosen=text, rejected=None)):
        assert_covers(one.offsets, len(text))
        assert one.offsets[-1].tolist() == [len(text)] * 2 or one.ids[-1] == TOKENIZER.eos_token_id


def assert_covers(offsets, length):
    reached = 0
    for start, end in offsets.tolist():
        assert 0 <= start <= reached
        assert start <= end <= length
        reached = max(reached, end)
    assert reached == length
    assert (np.diff(offsets[:, 0]) >= 0).all()


def test_gaps_go_to_the_token_after_them_and_the_last_to_the_last():
    assert cover(np.array([[1, 3], [4, 6]], np.int32), 8).tolist() == [[0, 3], [3, 8]]


def test_a_token_of_nothing_stays_where_it_stands():
    assert cover(np.array([[0, 2], [0, 0], [2, 4]], np.int32), 4).tolist() == [[0, 2], [2, 2], [2, 4]]


@given(
    st.lists(st.tuples(st.integers(-3, 25), st.integers(-3, 25)), min_size=1, max_size=12), st.integers(1, 20)
)
def test_whatever_a_tokenizer_says_the_text_is_covered(offsets, length):
    assert_covers(cover(np.array(offsets, np.int32), length), length)


# ---------------------------------------------------------------------------------------- what is refused


def test_an_empty_response_is_refused_by_name():
    with pytest.raises(DataError, match="rejected response of row `r1` is empty"):
        tokens(pair(rejected=""))


def test_a_response_that_is_too_long_is_refused_by_name():
    with pytest.raises(DataError, match=r"chosen response of row `r1` has .* more than the 3 allowed"):
        tokens(pair(), most=3)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(DataError, match="surrogates"):
        tokens(pair(chosen="a\ud83d"))


# -------------------------------------------------------------------------------------------- conversations

CONVERSATION = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Why?"))


def test_an_answer_ends_as_the_chat_template_ends_a_turn():
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ m.content }}", "{{ m.content }}<|turn|>")
    turn = tokenizer.convert_tokens_to_ids("<|turn|>")
    talk = PreferencePair("talk", (Message("user", "Hi!"),), Response("Hello."), None)
    plain = PreferencePair("plain", "Hi!", Response("Hello."), None)

    one, other = tokenise([talk, plain], tokenizer, append_eos=True, max_response_tokens=100)

    assert (one.ids[-1], one.eos) == (turn, "<|turn|>")
    assert (other.ids[-1], other.eos) == (tokenizer.eos_token_id, "</s>")


def test_a_conversation_goes_through_the_chat_template():
    (one,) = tokens(pair(prompt=CONVERSATION, chosen="Because.", rejected=None), tokenizer=CHAT)
    assert CHAT.decode(one.prompt) == "<|user|>Hi\n<|assistant|>Yes?\n<|user|>Why?\n<|assistant|>"
    assert CHAT.decode(one.ids[:-1]) == "Because."


def test_a_conversation_without_a_template_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        tokens(pair(prompt=CONVERSATION))


def test_what_the_template_refuses_names_the_row():
    with pytest.raises(DataError, match=r"row `r1`: No such role\."):
        tokens(pair(prompt=(Message("banned", "x"),)), tokenizer=CHAT)


# ------------------------------------------------------------------------------------------------ contexts


def tokenised(prompt, response):
    ids = np.arange(100, 100 + response, dtype=np.int32)
    offsets = np.stack([np.arange(response), np.arange(1, response + 1)], 1).astype(np.int32)
    return TokenisedResponse(
        "k",
        "chosen",
        Response("x" * response),
        np.arange(prompt, dtype=np.int32),
        ids,
        offsets,
        None,
        0,
        response,
    )


def test_what_fits_stays():
    for context in (10, None):
        assert fit(tokenised(4, 6), context).cut_prompt_tokens == 0
    assert len(fit(tokenised(4, 6), None).prompt) == 4


def test_a_prompt_is_cut_from_the_left():
    one = fit(tokenised(10, 6), 10)
    assert one.prompt.tolist() == [6, 7, 8, 9]
    assert one.cut_prompt_tokens == 6
    assert one.seen == 6


def test_the_bos_stays_before_a_prompt_that_is_cut():
    assert fit(tokenised(10, 6), 10, bos=0).prompt.tolist() == [0, 7, 8, 9]
    assert fit(tokenised(10, 30), 10, bos=0).prompt.tolist() == [0]


def test_of_a_response_longer_than_the_context_the_end_is_not_seen():
    one = fit(tokenised(10, 30), 12)
    assert one.prompt.tolist() == [9]
    assert one.seen == 11
    assert fit(tokenised(0, 30), 12).seen == 12


# ------------------------------------------------------------------------------------- another's tokenizer


def offsets(*ends, eos=False):
    starts = [0, *ends[:-1]]
    pairs = list(zip(starts, ends, strict=True)) + ([(ends[-1], ends[-1])] if eos else [])
    return np.array(pairs, np.int32)


def values(*numbers):
    return np.array(numbers, np.float32)


def test_a_token_takes_the_value_after_the_common_unit_it_starts_in():
    aligned = align_values(values(0, 1, 2, 4), offsets(2, 5, 9), offsets(1, 2, 9))
    assert aligned.tolist() == [0, 1, 1, 4]


def test_a_coarser_tokenizer_loses_no_increment():
    assert align_values(values(0, 1, 2, 4), offsets(2, 5, 9), offsets(9)).tolist() == [0, 4]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (True, True, [0, 1, 3, 7]),
        (True, False, [0, 1, 3, 3]),
        (False, True, [0, 1, 7]),
    ],
)
def test_the_eos_takes_the_last_value(ours, theirs, expected):
    given_values = values(0, 1, 3, 7) if theirs else values(0, 1, 3)
    aligned = align_values(given_values, offsets(2, 4, eos=theirs), offsets(2, 4, eos=ours))
    assert aligned.tolist() == expected


CUTS = st.sets(st.integers(1, 19), max_size=12)


@given(ours=CUTS, theirs=CUTS, our_eos=st.booleans(), their_eos=st.booleans(), seed=st.integers(0, 99))
def test_the_telescoping_sum_holds_across_tokenizers(ours, theirs, our_eos, their_eos, seed):
    units = offsets(*sorted(theirs), 20, eos=their_eos)
    read = np.random.default_rng(seed).normal(size=len(units) + 1).astype(np.float32)
    aligned = align_values(read, units, offsets(*sorted(ours), 20, eos=our_eos))
    assert np.diff(aligned.astype(float)).sum() == pytest.approx(float(read[-1]) - float(read[0]), abs=1e-5)


def test_one_tokenizer_against_itself_changes_nothing():
    read = values(0, 3, 1, 4, 1)
    assert (
        align_values(read, offsets(2, 5, 6, eos=True), offsets(2, 5, 6, eos=True)).tolist() == read.tolist()
    )


def test_drawn_tokens_become_text_that_they_cover() -> None:
    tokenizer = byte_tokenizer()
    text = " cat, 漢字 and 😀"
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    decoded = decode(tokenizer("A small")["input_ids"], ids, tokenizer)
    assert decoded.text == text
    assert len(decoded.offsets) == len(ids)
    assert decoded.offsets[-1].tolist() == [len(text), len(text)]
    covered = {at for start, end in decoded.offsets.tolist() for at in range(start, end)}
    assert covered == set(range(len(text)))


def test_a_character_that_is_not_whole_is_no_text() -> None:
    tokenizer = byte_tokenizer(merges=0)
    cut = tokenizer("a漢", add_special_tokens=False)["input_ids"][:-1]
    decoded = decode([], cut, tokenizer)
    assert decoded.text == "a"
    assert decoded.offsets.tolist() == [[0, 1], [1, 1], [1, 1]]
