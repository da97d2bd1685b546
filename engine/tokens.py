"""Prompt and response as tokens that know which characters they stand for.

Tokenizers arrive as arguments (fast ones of transformers). Offsets are code points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from tokenizers.decoders import DecodeStream

from engine.errors import DataError, ModelError
from engine.types import Message, PreferencePair, Response, RewardMap, Side

CONTEXT_OF_DECODING = 16
"""Tokens of a prompt that are decoded before a response: a word's first space depends on what precedes it."""


@dataclass(frozen=True, slots=True)
class TokenisedResponse:
    """One side of a pair as tokens, with the prompt that it continues."""

    key: str
    side: Side
    response: Response
    prompt: Int32[np.ndarray, " prompt"]
    """The same for both sides, unless one of them needed more of the context."""
    ids: Int32[np.ndarray, " response"]
    offsets: Int32[np.ndarray, "response 2"]
    """Code points [start, end) of the response text, together all of it; the EOS has (length, length)."""
    eos: str | None
    """How the tokenizer writes its EOS where the last token is one."""
    cut_prompt_tokens: int = 0
    """Prompt tokens that were cut from the left."""
    seen: int = 0
    """Response tokens that fit the context, from the left; those beyond are missing."""

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
    pairs: Sequence[PreferencePair], tokenizer: Any, *, append_eos: bool, max_response_tokens: int
) -> list[TokenisedResponse]:
    """All responses of the pairs, chosen before rejected, not yet cut to any context.

    Raises DataError with the row's name for an empty response, one that is too long, or a conversation that
    the chat template refuses; ModelError where there is no chat template.
    """
    prompts = [_prompt_text(pair, tokenizer) for pair in pairs]
    subjects = [
        (pair, prompt, side, response)
        for pair, prompt in zip(pairs, prompts, strict=True)
        for side, response in pair.sides()
    ]
    for pair, _, side, response in subjects:
        if not response.text:
            raise DataError(
                f"The {side} response of row `{pair.key}` is empty; give it a text or drop the row."
            )
    prompt_ids = _encode_prompts(prompts, tokenizer)
    responses = _encode_responses(
        [(prompt, response.text) for _, prompt, _, response in subjects], prompt_ids, tokenizer
    )
    ends = {False: tokenizer.eos_token_id}
    if any(not isinstance(pair.prompt, str) for pair in pairs):
        ends[True] = _end_of_turn(tokenizer)
    tokenised = []
    for (pair, prompt, side, response), encoded in zip(subjects, responses, strict=True):
        end = ends[not isinstance(pair.prompt, str)]
        ids, offsets, eos = _with_end(encoded, len(response.text), tokenizer, end, append_eos)
        one = TokenisedResponse(pair.key, side, response, prompt_ids[prompt], ids, offsets, eos, 0, len(ids))
        _check(one, max_response_tokens)
        tokenised.append(one)
    return tokenised


def tokenise_prompts(pairs: Sequence[PreferencePair], tokenizer: Any) -> list[Int32[np.ndarray, " prompt"]]:
    """The prompts alone, as `tokenise` reads them. Raises as it does."""
    texts = [_prompt_text(pair, tokenizer) for pair in pairs]
    ids = _encode_prompts(texts, tokenizer)
    return [ids[text] for text in texts]


def fit(one: TokenisedResponse, context: int | None, bos: int | None = None) -> TokenisedResponse:
    """The response with as much of its prompt as the context leaves, cut from the left but for the `bos`.

    At least one prompt token stays, so that the first response token has a prediction; response tokens that
    do not fit then are not seen.
    """
    total = len(one.prompt) + len(one.ids)
    if context is None or total <= context:
        return one
    room = max(context - len(one.ids), min(1, len(one.prompt)))
    prompt = one.prompt if room >= len(one.prompt) else _last(one.prompt, room, bos)
    return replace(
        one,
        prompt=prompt,
        cut_prompt_tokens=len(one.prompt) - len(prompt),
        seen=min(len(one.ids), context - len(prompt)),
    )


def _last(prompt: Int32[np.ndarray, " prompt"], room: int, bos: int | None) -> Int32[np.ndarray, " kept"]:
    """The last `room` tokens, of which the first is the BOS where the prompt begins with one."""
    if room == 0 or prompt[0] != bos:
        return prompt[len(prompt) - room :]
    return np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])


def ends_of_responses(tokenizer: Any, prompts: Iterable[str | tuple[Message, ...]]) -> list[int]:
    """The tokens after which a response to one of these prompts is over: the EOS, and where a prompt is a
    conversation also what the chat template ends a turn with."""
    ends = [tokenizer.eos_token_id]
    if any(not isinstance(prompt, str) for prompt in prompts):
        ends.append(_end_of_turn(tokenizer))
    return list(dict.fromkeys(end for end in ends if end is not None))


# ------------------------------------------------------------------------------------------------- encoding


class PromptText(NamedTuple):
    """A prompt as text; special tokens are in it where a chat template wrote them."""

    text: str
    has_special_tokens: bool


class _Encoded(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]


def _prompt_text(pair: PreferencePair, tokenizer: Any) -> PromptText:
    if isinstance(pair.prompt, str):
        # Data sets hold prompts that a template rendered; a second BOS is what no model was trained on.
        rendered = bool(tokenizer.bos_token) and pair.prompt.startswith(tokenizer.bos_token)
        return PromptText(pair.prompt, rendered)
    return PromptText(_render(pair.key, pair.prompt, tokenizer), True)


def _render(key: str, messages: Iterable[Message], tokenizer: Any) -> str:
    if not tokenizer.chat_template:
        raise ModelError(
            f"Row `{key}` is a conversation, but the tokenizer has no chat template; use a chat model, add a "
            "template to the tokenizer, or give the prompt as plain text."
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # A template is a program of its author's and may raise anything.
        raise DataError(f"The chat template refuses the conversation of row `{key}`: {error}") from error
    return str(text)


def _encode_prompts(prompts: Iterable[PromptText], tokenizer: Any) -> dict[PromptText, np.ndarray]:
    """Token ids of every different prompt; a prompt without tokens becomes the BOS where there is one."""
    different = list(dict.fromkeys(prompts))
    encoded = _encode(different, tokenizer)
    beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return {
        prompt: np.array(one.ids or beginning, np.int32)
        for prompt, one in zip(different, encoded, strict=True)
    }


def _encode_responses(
    subjects: Sequence[tuple[PromptText, str]], prompt_ids: dict[PromptText, np.ndarray], tokenizer: Any
) -> list[_Encoded]:
    """Tokens of each response after its prompt.

    The whole text is tokenised, and what follows the prompt's tokens is the response. Where the two texts
    merge at the seam, the response is tokenised by itself, so that both sides keep the same prompt.
    """
    whole = _encode(
        [PromptText(prompt.text + text, prompt.has_special_tokens) for prompt, text in subjects], tokenizer
    )
    responses: list[_Encoded | None] = [
        _after(one, prompt_ids[prompt], len(prompt.text))
        for one, (prompt, _) in zip(whole, subjects, strict=True)
    ]
    merged = [index for index, response in enumerate(responses) if response is None]
    alone = _encode([PromptText(subjects[index][1], True) for index in merged], tokenizer)
    for index, one in zip(merged, alone, strict=True):
        responses[index] = one
    return [response for response in responses if response is not None]


def _after(whole: _Encoded, prompt: np.ndarray, length: int) -> _Encoded | None:
    """What follows the prompt, with offsets from the end of the prompt's text; None where it is no prefix."""
    tokens = len(prompt)
    if len(whole.ids) <= tokens or whole.ids[:tokens] != prompt.tolist():
        return None
    return _Encoded(whole.ids[tokens:], [(s - length, e - length) for s, e in whole.offsets[tokens:]])


def _encode(texts: Sequence[PromptText], tokenizer: Any) -> list[_Encoded]:
    """Token ids and offsets; special tokens that the tokenizer would put at the end are left away."""
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
    return _Encoded(ids[:end], offsets[:end])


def _end_of_turn(tokenizer: Any) -> int | None:
    """The token with which the chat template ends an answer: some models end a turn with another token than
    a text, and that is the one which training teaches. The EOS where the template writes none."""
    eos: int | None = tokenizer.eos_token_id
    answer = "An answer."
    turns = [{"role": "user", "content": "A question."}, {"role": "assistant", "content": answer}]
    try:
        rendered = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # A template is a program of its author's and may raise anything.
        return eos
    tail = rendered.rpartition(answer)[2]
    special = set(tokenizer.all_special_ids)
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    return next((one for one in ids if one in special), eos)


def _with_end(
    encoded: _Encoded, length: int, tokenizer: Any, end: int | None, append: bool
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Ids and covering offsets, with `end` as the last token where it is wanted and not there already."""
    ids = np.array(encoded.ids, np.int32)
    offsets = cover(np.array(encoded.offsets, np.int32).reshape(-1, 2), length)
    ends = end is not None and len(ids) > 0 and int(ids[-1]) == end
    if append and end is not None and not ends:
        ids = np.append(ids, np.int32(end))
        offsets = np.concatenate([offsets, np.full((1, 2), length, np.int32)])
        ends = True
    return ids, offsets, str(tokenizer.convert_ids_to_tokens(end)) if ends else None


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
