"""Prompt and response as tokens that know which characters they stand for.

What a model reads is one text, tokenised once: a conversation as its chat template writes it, or the row's
prompt with its response behind it. The response is the tokens that hold any of its characters, so that a
token across the seam (a space that a tokenizer takes to the word after it, two letters that merge) is the
response's, and the prompt ends before it. What ends the turn belongs to the response too; what a template
writes after that is read by reward models alone. Tokenizers arrive as arguments (fast ones of transformers).
Offsets are code points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32
from tokenizers.decoders import DecodeStream

from engine.conversations import ChatTemplate, Rendered, rendered
from engine.endings import Marks, marks_of
from engine.errors import DataError, ModelError
from engine.types import PreferencePair, Response, RewardMap, Side

CONTEXT_OF_DECODING = 16
"""Tokens of a prompt that are decoded before a response: a word's first space depends on what precedes it."""


def _nothing() -> Int32[np.ndarray, " none"]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class TokenisedResponse:
    """One side of a pair as tokens, with the prompt that it continues."""

    key: str
    side: Side
    response: Response
    prompt: Int32[np.ndarray, " prompt"]
    """The same for both sides, unless a token across the seam or the context needed more of it in one."""
    ids: Int32[np.ndarray, " response"]
    """The policy's words, and what ends its turn."""
    offsets: Int32[np.ndarray, "response 2"]
    """Code points [start, end) of the response text, together all of it; what ends the turn has (length,
    length)."""
    eos: str | None
    """How the last token is written where it ends the turn or is an EOS."""
    cut_prompt_tokens: int = 0
    """Prompt tokens that were cut from the left."""
    seen: int = 0
    """Response tokens that fit the context, from the left; those beyond are missing."""
    closing: Int32[np.ndarray, " closing"] = field(default_factory=_nothing)
    """What a reward model reads after the response, and gives its value there: what the template or the
    tokenizer writes last, such as a newline or a [SEP]. Empty for policies."""

    @property
    def name(self) -> str:
        """What a sentence calls this response."""
        return f"The {self.side} response of row `{self.key}`"

    def mapped(
        self, rewards: Mapping[str, np.ndarray], totals: Mapping[str, float], **tracks: np.ndarray | None
    ) -> RewardMap:
        """The map of this response with these rewards and totals by source, and tracks by their names."""
        return RewardMap(
            key=self.key,
            side=self.side,
            token_ids=self.ids,
            offsets=self.offsets,
            eos=self.eos,
            prompt_tokens=len(self.prompt),
            truncated_prompt_tokens=self.cut_prompt_tokens,
            rewards=rewards,
            totals=totals,
            **tracks,
        )


def tokenise(
    pairs: Sequence[PreferencePair],
    tokenizer: Any,
    *,
    append_eos: bool,
    max_response_tokens: int,
    judged: bool = False,
    template_date: date | None = None,
) -> list[TokenisedResponse]:
    """All responses of the pairs, chosen before rejected, not yet cut to any context.

    append_eos: whether the responses are over: with what ends the turn in the template, or with the EOS where
    it writes nothing or there is none. judged: as a reward model reads them, to the end of the rendered
    conversation and with nothing that its template does not write. template_date: what a template that writes
    today's date takes for it; None: today.

    Raises DataError with the row's name for an empty response, one that is too long, or a conversation that
    the chat template refuses; ModelError where there is no chat template.
    """
    for pair in pairs:
        for side, response in pair.sides():
            if not response.text:
                raise DataError(
                    f"The {side} response of row `{pair.key}` is empty; give it a text or drop the row."
                )
    marks = marks_of(tokenizer)
    template = ChatTemplate(tokenizer, template_date)
    texts = [
        text for pair in pairs for text in _whole_texts(pair, tokenizer, template, marks, append_eos, judged)
    ]
    subjects = [(pair, side, response) for pair in pairs for side, response in pair.sides()]
    encoded = _encode([_PlainText(one.text, one.has_special_tokens) for one in texts], tokenizer)
    tokenised = []
    for (pair, side, response), text, tokens in zip(subjects, texts, encoded, strict=True):
        one = _split(pair.key, side, response, text, tokens, tokenizer, marks)
        _check(one, max_response_tokens)
        tokenised.append(one)
    return tokenised


def tokenise_prompts(
    pairs: Sequence[PreferencePair],
    tokenizer: Any,
    *,
    beginnings: Sequence[str] | None = None,
    template_date: date | None = None,
) -> list[Int32[np.ndarray, " prompt"]]:
    """What a policy is given to answer each prompt, with the beginning of an answer behind it where there is
    one. Raises as `tokenise` does."""
    template = ChatTemplate(tokenizer, template_date)
    begun = beginnings or [""] * len(pairs)
    texts = []
    for pair, beginning in zip(pairs, begun, strict=True):
        if isinstance(pair.prompt, str):
            texts.append(_PlainText(pair.prompt + beginning, _is_rendered(pair.prompt, tokenizer)))
        else:
            _check_template(pair.key, tokenizer)
            texts.append(_PlainText(template.opened(pair.key, pair.prompt) + beginning, True))
    different = list(dict.fromkeys(texts))
    ids = {
        text: np.array(one.ids or _bos(tokenizer), np.int32)
        for text, one in zip(different, _encode(different, tokenizer), strict=True)
    }
    return [ids[text] for text in texts]


def fit(one: TokenisedResponse, context: int | None, bos: int | None = None) -> TokenisedResponse:
    """The response with as much of its prompt as the context leaves, cut from the left but for the `bos`.

    At least one prompt token stays, so that the first response token has a prediction; response tokens that
    do not fit then are not seen.
    """
    length = len(one.ids) + len(one.closing)
    if context is None or len(one.prompt) + length <= context:
        return one
    prompt = last_tokens_of(one.prompt, max(context - length, 1), bos)
    seen = min(len(one.ids), context - len(prompt))
    return replace(one, prompt=prompt, cut_prompt_tokens=len(one.prompt) - len(prompt), seen=seen)


def last_tokens_of(
    prompt: Int32[np.ndarray, " prompt"], room: int, bos: int | None
) -> Int32[np.ndarray, " kept"]:
    """The last `room` tokens, of which the first is the BOS where the prompt begins with one."""
    if room >= len(prompt):
        return prompt
    if room == 0 or prompt[0] != bos:
        return prompt[len(prompt) - room :]
    return np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])


def common_prompt(responses: Sequence[TokenisedResponse]) -> Int32[np.ndarray, " common"]:
    """The tokens that all their prompts begin with: prompts part where a token lies across the seam."""
    first, *others = (one.prompt for one in responses)
    length = len(first)
    for other in others:
        length = min(length, len(other))
        differs = np.flatnonzero(first[:length] != other[:length])
        length = int(differs[0]) if len(differs) else length
    return first[:length]


# ------------------------------------------------------------------------------------------------- encoding


class _PlainText(NamedTuple):
    """A text to tokenise; special tokens are in it where a chat template wrote them."""

    text: str
    has_special_tokens: bool


class _Whole(NamedTuple):
    """All that a model reads of one response, and where in it the response stands, in code points."""

    text: str
    has_special_tokens: bool
    start: int
    end: int
    """Where the response's own text ends."""
    turn_end: int
    """Where what ends the turn ends; `end` where the text holds nothing that does."""
    places: Int32[np.ndarray, " answer+1"]
    """For every position in [start, end] the one in the response as the row has it."""
    ending: str | None
    """How what ends the turn is written."""
    appends_eos: bool
    """Whether the EOS follows, unless it is there already."""
    is_closed: bool
    """Whether what stands after the turn, or what the tokenizer puts at the end, is read."""


class _Encoded(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]
    added: list[int]
    """Special tokens that the tokenizer puts behind every text."""


def _whole_texts(
    pair: PreferencePair,
    tokenizer: Any,
    template: ChatTemplate,
    marks: Marks,
    append_eos: bool,
    judged: bool,
) -> list[_Whole]:
    """What a model reads of each side of a pair."""
    answers = [response for _, response in pair.sides()]
    if isinstance(pair.prompt, str):
        special = _is_rendered(pair.prompt, tokenizer)
        return [
            _Whole(one.text, special, one.start, one.end, one.end, one.places, None, append_eos, judged)
            for one in rendered(pair.key, pair.prompt, answers, template)
        ]
    _check_template(pair.key, tokenizer)
    texts = []
    for one, answer in zip(rendered(pair.key, pair.prompt, answers, template), answers, strict=True):
        if answer.turns:  # Its turn may end otherwise than one without calls.
            one = _without_its_ending(one, marks)
        length, tokens = marks.ending(one.after)
        whole = one.text
        if not append_eos or not (length or judged):
            whole, length, tokens = one.text[: one.end], 0, ()
        texts.append(
            _Whole(
                whole,
                True,
                one.start,
                one.end,
                one.end + length,
                one.places,
                ending=(tokens[-1] if tokens else one.after[:length].strip()) or None,
                appends_eos=append_eos and not (length or judged),
                is_closed=append_eos and judged,
            )
        )
    return texts


def _without_its_ending(one: Rendered, marks: Marks) -> Rendered:
    """The answer up to the marks that it ends with, which end its turn."""
    length = marks.length_at_end(one.text[one.start : one.end])
    if not length:
        return one
    places = np.append(one.places[: len(one.places) - 1 - length], one.places[-1])
    return replace(one, end=one.end - length, places=places)


def _is_rendered(prompt: str, tokenizer: Any) -> bool:
    """Whether a template wrote this prompt of a data set: a second BOS is what no model was trained on."""
    return bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)


def _check_template(key: str, tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise ModelError(
            f"Row `{key}` is a conversation, but the tokenizer has no chat template; use a chat model, add a "
            "template to the tokenizer, or give the prompt as plain text."
        )


def _bos(tokenizer: Any) -> list[int]:
    """What stands for a prompt without tokens: the BOS where there is one."""
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]


def _encode(texts: Sequence[_PlainText], tokenizer: Any) -> list[_Encoded]:
    """Token ids and offsets, and apart from them what the tokenizer puts at the end."""
    encoded: list[_Encoded | None] = [None] * len(texts)
    for has_special_tokens in (False, True):
        places = [place for place, text in enumerate(texts) if text.has_special_tokens is has_special_tokens]
        if not places:
            continue
        try:
            batch = tokenizer(
                [texts[place].text for place in places],
                add_special_tokens=not has_special_tokens,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
        except (UnicodeError, TypeError) as error:
            raise DataError(
                f"A text of the rows cannot be written as UTF-8 ({error}); remove lone surrogates from it."
            ) from error
        for index, place in enumerate(places):
            encoded[place] = _without_end(
                batch["input_ids"][index], batch["offset_mapping"][index], batch["special_tokens_mask"][index]
            )
    return [one for one in encoded if one is not None]


def _without_end(ids: list[int], offsets: list[tuple[int, int]], special: list[int]) -> _Encoded:
    end = len(ids)
    while end and special[end - 1] and offsets[end - 1][0] == offsets[end - 1][1]:
        end -= 1
    if end == 0:  # An empty text: what stands there belongs to the beginning.
        end = min(1, len(ids))
    return _Encoded(ids[:end], offsets[:end], ids[end:])


def _split(
    key: str,
    side: Side,
    response: Response,
    text: _Whole,
    encoded: _Encoded,
    tokenizer: Any,
    marks: Marks,
) -> TokenisedResponse:
    """The tokens of a whole text as prompt, response and what closes it."""
    ids = np.array(encoded.ids, np.int32)
    starts, ends = np.array(encoded.offsets, np.int32).reshape(-1, 2).T
    is_mark = np.isin(ids, list(marks.ids))
    # A mark may swallow white space beside it, and is the template's all the same.
    belongs = (ends > text.start) & ~(is_mark & (starts < text.start))
    first = _first(belongs, len(ids))
    # White space may have offsets of no width: at the end of the text it is the response's own.
    is_after = (starts >= text.end) | (is_mark & (ends > text.end))
    own_end = max(first, _first(is_after & (text.end < len(text.text)), len(ids)))
    is_closing = (starts >= text.turn_end) & (text.turn_end < len(text.text))
    turn_end = own_end if text.turn_end == text.end else max(own_end, _first(is_closing, len(ids)))
    last = len(text.places) - 1
    inside = np.stack([starts[first:own_end], ends[first:own_end]], axis=1) - text.start
    offsets = cover(text.places[np.clip(inside, 0, last)], len(response.text))
    ended = turn_end - own_end
    eos = text.ending if ended else None
    closing = np.concatenate([ids[turn_end:], np.array(encoded.added, np.int32)])
    ids, prompt = ids[first:turn_end], ids[:first]
    if not ended and len(ids) and ids[-1] == tokenizer.eos_token_id:
        eos = str(tokenizer.convert_ids_to_tokens(int(ids[-1])))
    elif text.appends_eos and tokenizer.eos_token_id is not None and not (text.is_closed and encoded.added):
        ids, ended = np.append(ids, np.int32(tokenizer.eos_token_id)), 1
        eos = str(tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id))
        closing = closing[int(bool(len(closing)) and closing[0] == ids[-1]) :]
    ending = np.full((ended, 2), len(response.text), np.int32)
    return TokenisedResponse(
        key,
        side,
        response,
        prompt if len(prompt) else np.array(_bos(tokenizer), np.int32),
        ids,
        np.concatenate([offsets, ending]),
        eos,
        0,
        len(ids),
        closing if text.is_closed else _nothing(),
    )


def _first(holds: Bool[np.ndarray, " tokens"], otherwise: int) -> int:
    return int(np.argmax(holds)) if holds.any() else otherwise


def _check(one: TokenisedResponse, max_response_tokens: int) -> None:
    if not np.any(one.offsets[:, 0] < one.offsets[:, 1]):
        raise DataError(
            f"{one.name} gives no tokens; give it a text that the tokenizer knows, or drop the row."
        )
    if len(one.ids) > max_response_tokens:
        raise DataError(
            f"{one.name} has {len(one.ids):,} tokens, more than the {max_response_tokens:,} allowed; "
            "shorten it, drop the row, or raise `max_response_tokens`."
        )


# ------------------------------------------------------------------------------------------- their own tokens


def own_tokens(pairs: Sequence[PreferencePair], max_response_tokens: int) -> list[TokenisedResponse]:
    """The responses in the tokens that they came with, for scoring without any model: chosen before rejected,
    with -1 for every id, as nobody knows these.

    Raises DataError for a response that came with no places of its tokens, or with too many.
    """
    found = []
    for pair in pairs:
        for side, response in pair.sides():
            if response.token_offsets is None:
                raise DataError(
                    f"The {side} response of row `{pair.key}` comes without tokens of its own; name a policy "
                    "or a reward model, whose tokenizer cuts it, or give it `tokens` or `token_offsets` "
                    "beside its token rewards."
                )
            offsets = cover(np.array(response.token_offsets, np.int32).reshape(-1, 2), len(response.text))
            ids = np.full(len(offsets), -1, np.int32)
            one = TokenisedResponse(
                pair.key, side, response, _nothing(), ids, offsets, eos=None, seen=len(ids)
            )
            _check(one, max_response_tokens)
            found.append(one)
    return found


# -------------------------------------------------------------------------------------------------- offsets


def cover(offsets: Int32[np.ndarray, "tokens 2"], length: int) -> Int32[np.ndarray, "tokens 2"]:
    """The offsets, widened so that together they cover [0, length), in order.

    Tokenizers leave gaps: a space that belongs to the word after it, characters that a normaliser drops. A
    gap goes to the token after it, the last one to the last token. Tokens of one character keep sharing it.
    """
    if not len(offsets):
        return offsets
    starts, ends = np.clip(offsets[:, 0], 0, length), np.clip(offsets[:, 1], 0, length)
    empty = starts >= ends
    ends = np.maximum.accumulate(np.where(empty, 0, ends))
    ends[-1] = length
    before = np.concatenate([[0], ends[:-1]])
    starts = np.minimum(np.where(empty, before, starts), before)
    starts = np.minimum.accumulate(starts[::-1])[::-1]
    return np.stack([starts, ends], axis=1).astype(np.int32)


def align_values(
    values: Float32[np.ndarray, " units+1"],
    units: Int32[np.ndarray, "units 2"],
    offsets: Int32[np.ndarray, "response 2"],
) -> Float32[np.ndarray, " response+1"]:
    """Values read after another tokenizer's tokens, brought to the tokens of a response.

    `values` begin with V_0; `units` and `offsets` cover the same text. Where both tokenizers have a boundary
    a common unit ends; a token belongs to the unit that contains its start character and takes the value
    after that unit, and the EOS takes the last value. So increments still sum to V_T - V_0.
    """
    length = int(offsets[-1, 1])
    boundaries = np.intersect1d(units[:, 1], offsets[:, 1])
    content = np.append(boundaries[boundaries < length], length)
    ends = content[np.minimum(np.searchsorted(content, offsets[:, 0], side="right"), len(content) - 1)]
    after = np.searchsorted(units[:, 1], ends, side="right")
    if offsets[-1, 0] == length and units[-1, 0] == length:
        # Both have an EOS: what is read after it belongs to the EOS alone.
        after = np.minimum(after, len(units) - 1)
    after[-1] = len(units)
    return np.concatenate([values[:1], values[after]]).astype(np.float32)


# -------------------------------------------------------------------------------------------------- decoding


class Decoded(NamedTuple):
    """Tokens that a policy drew, as text."""

    text: str
    """Special tokens are not in it."""
    offsets: Int32[np.ndarray, "response 2"]
    """Code points [start, end) of the text that each token stands for, together all of it; tokens that make
    one character together share it, and special tokens have none."""


def decode(prompt: Sequence[int], ids: Sequence[int], tokenizer: Any) -> Decoded:
    """The text of a response, which begins as it does after its prompt, and where its tokens stand in it."""
    core, stream = tokenizer.backend_tokenizer, DecodeStream(skip_special_tokens=True)
    for one in prompt[-CONTEXT_OF_DECODING:]:
        stream.step(core, int(one))
    text = ""
    offsets: list[tuple[int, int]] = []
    pending = 0
    for one in ids:
        piece = stream.step(core, int(one))
        if piece is None and int(one) not in tokenizer.all_special_ids:
            pending += 1
            continue
        start, text = len(text), text + (piece or "")
        offsets += [(start, len(text))] * (pending + 1)
        pending = 0
    offsets += [(len(text), len(text))] * pending
    return Decoded(text, np.array(offsets, np.int32).reshape(-1, 2))
