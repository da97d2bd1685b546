"""What would be read of a model, and how its chat template writes a conversation."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from engine.conversations import ChatTemplate, ignores_tools, rendered, writes_date
from engine.endings import about_endings, ends_of_responses, marks_of
from engine.errors import DataError, EngineError
from engine.inspection.model_files import ModelSeen, Reading, seen_of
from engine.inspection.probe import probe_of
from engine.language_models import LoadedModel, load_policy, load_reward_model
from engine.model_files import inspect_model
from engine.types import Message, ModelReference, PreferencePair, Response

_EXAMPLE = PreferencePair(
    "example",
    (Message("system", "Answer briefly."), Message("user", "What is the capital of France?")),
    Response("It is Paris."),
    None,
)


def load_any(reference: ModelReference) -> LoadedModel:
    """A policy or a reward model, whichever its files say it is. Raises ModelError."""
    load = load_policy if inspect_model(reference).kind == "causal_lm" else load_reward_model
    return load(reference, device="cpu")


def inspect_loaded(loaded: LoadedModel) -> ModelSeen:
    """What there is to know of a model that was loaded, weights and all. Raises ModelError for a reward model
    that is not read here as its own forward pass reads it."""
    info, tokenizer = loaded.info, loaded.tokenizer
    odd = [*loaded.notes]
    if info.kind == "causal_lm":
        odd += about_endings(tokenizer, info.eos_token_ids)
    example = None
    if info.has_chat_template:
        example, about = _example(tokenizer)
        odd += about
    elif info.kind == "causal_lm":
        odd.append("There is no chat template: prompts must be text, messages are refused.")
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id == tokenizer.eos_token_id:
        odd.append("The padding token is the EOS; padding is told apart by its place, never by its id.")
    ends = ends_of_responses(tokenizer, info.eos_token_ids)
    return replace(
        seen_of(info),
        bos=tokenizer.bos_token,
        eos=tokenizer.eos_token,
        pad=tokenizer.pad_token,
        ends=[str(token) for token in tokenizer.convert_ids_to_tokens(ends)],
        example=example,
        reading=probe_of(loaded).sentence() if info.kind == "sequence_classifier" else None,
        odd=odd,
    )


def readings(pair: PreferencePair, tokenizer: Any, day: date | None = None) -> list[Reading]:
    """The exact text that a model reads of each response of a pair. Raises DataError where the chat template
    refuses the conversation, or where there is none and the prompt is messages."""
    if not isinstance(pair.prompt, str) and not tokenizer.chat_template:
        raise DataError(
            f"The prompt of row `{pair.key}` is messages, and the model has no chat template; use a model "
            "that has one, or write the prompt as text."
        )
    template, marks = ChatTemplate(tokenizer, day), marks_of(tokenizer)
    sides = pair.sides()
    texts = rendered(pair.key, pair.prompt, [response for _, response in sides], template)
    found = []
    for (side, _), one in zip(sides, texts, strict=True):
        length = marks.ending(one.after).length
        found.append(
            Reading(
                key=pair.key,
                side=side,
                before=one.text[: one.start],
                response=one.text[one.start : one.end],
                ending=one.after[:length],
                after=one.after[length:],
            )
        )
    return found


def _example(tokenizer: Any) -> tuple[Reading | None, list[str]]:
    """The example conversation as the template writes it, and what is odd about the template."""
    odd = []
    if writes_date(tokenizer):
        odd.append("The chat template writes today's date; runs pin it and say which.")
    if ignores_tools(tokenizer):
        odd.append("The chat template writes nothing of `tools`.")
    thinking = Message("assistant", "It is Paris.", {"reasoning_content": "Of France it is Paris."})
    try:
        readings(replace(_EXAMPLE, chosen=Response("It is Paris.", turns=(thinking,))), tokenizer)
    except EngineError:
        odd.append("The chat template writes nothing of `reasoning_content`; such rows are refused.")
    try:
        return readings(_EXAMPLE, tokenizer)[0], odd
    except EngineError as error:
        odd.append(f"It refuses a system message ({error}).")
    try:
        return readings(replace(_EXAMPLE, prompt=_EXAMPLE.prompt[1:]), tokenizer)[0], odd
    except EngineError as error:
        return None, [*odd, f"It refuses a question and its answer ({error})."]
