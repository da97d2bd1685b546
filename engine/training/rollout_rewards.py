"""What the frozen models say of responses that were just sampled, on the tokens of the trained model.

The sequence reward is the total of the source, as the sum of the implicit rewards, or V_T of a reward model,
which stands for its increments too although they sum to V_T - V_0, for V_0 says nothing of the response.
Where a reward model stands beside a scorer, the scorer rewards tokens and the reward model the whole. [ours]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from jaxtyping import Float32, Int32

from engine.conversations import ChatTemplate
from engine.errors import RequestError
from engine.language_models import LoadedModel
from engine.reading import read_tracks, read_values
from engine.requests import ScoreRequest
from engine.sampling import Drawn
from engine.sources import SOURCES, Evidence, SourceName
from engine.sources.registry import Need
from engine.tokens import Decoded, TokenisedResponse, align_values, decode, fit, tokenise, tokenise_prompts
from engine.training.frozen import FrozenModels
from engine.training.shared_prompts import RowsByPrompt, rows_by_prompt
from engine.types import Message, PreferencePair, Response

BETA = float(ScoreRequest.model_fields["beta"].default)
"""Of the implicit reward; scales what is shown, for training takes rewards in their own deviations."""
_Track = Float32[np.ndarray, " _places"]
"""One number a token, or with one before them."""
PromptSaid = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ResponseRewards:
    """The rewards of one response."""

    total: float
    """The sequence reward."""
    token_rewards: Float32[np.ndarray, " response"]
    """Of the source: what the rule cuts."""
    increments: Float32[np.ndarray, " response"]
    """What each token adds: the token rewards of an increment, the changes of a level."""
    decoded: Decoded | None
    """None where nobody asked for the text."""


class RolloutRewards:
    """Asks the frozen models."""

    def __init__(
        self,
        frozen: FrozenModels,
        policy: LoadedModel,
        source: SourceName,
        token_budget: int,
        *,
        needs_text: bool = False,
        template_date: date | None = None,
    ) -> None:
        self._frozen = frozen
        self._policy = policy
        self._source = SOURCES[source]
        self._token_budget = token_budget
        self._template_date = template_date
        judge = frozen.reward_model
        self._judge_has_our_tokens = judge is not None and _same_tokens(policy, judge)
        self._needs_text = (
            needs_text or self._source.reads_text or (judge is not None and not self._judge_has_our_tokens)
        )
        readers = [policy, frozen.reference, frozen.scorer, frozen.scorer_reference]
        readers += [judge] if self._judge_has_our_tokens else []
        contexts = [one.info.context for one in readers if one is not None and one.info.context is not None]
        self.context = min(contexts, default=None)
        """The most tokens, of prompt and response, that every model with the policy's tokenizer reads."""

    def __call__(
        self, rows: RowsByPrompt, prompts: Sequence[PromptSaid], drawn: Sequence[Drawn]
    ) -> list[ResponseRewards]:
        """The rewards of the responses `drawn` to `prompts`, which stand in `rows` in the same order."""
        decoded: list[Decoded | None] = [None] * len(drawn)
        if self._needs_text or not self._read_as_drawn(prompts):
            decoded = [self._decoded(rows, index) for index in range(len(drawn))]
        scorer = self._logprobs("policy", self._frozen.scorer, rows)
        reference = self._logprobs("reference", self._frozen.scorer_reference, rows)
        values = self._values(rows, prompts, drawn, decoded)
        ids = [rows.rows[row].branches[branch] for row, branch in rows.places]
        return [self._said(*one) for one in zip(ids, scorer, reference, values, decoded, drawn, strict=True)]

    def _said(
        self,
        ids: Int32[np.ndarray, " _response"],
        scorer: _Track | None,
        reference: _Track | None,
        values: _Track | None,
        decoded: Decoded | None,
        drawn: Drawn,
    ) -> ResponseRewards:
        text, offsets = decoded or ("", np.zeros((len(ids), 2), np.int32))
        evidence = Evidence(
            name="A rollout",
            response=Response(text),
            ids=ids,
            offsets=offsets,
            ends_with_eos=drawn.ended,
            policy_logprobs=scorer,
            reference_logprobs=reference,
            values=values,
            beta=BETA,
        )
        rewards = self._source.token_rewards(evidence)
        total = self._source.total(rewards) if values is None else float(values[-1])
        return ResponseRewards(total, rewards, self._source.increments(rewards, evidence), decoded)

    def _decoded(self, rows: RowsByPrompt, index: int) -> Decoded:
        row, branch = rows.places[index]
        prompt, ids = rows.rows[row].prompt, rows.rows[row].branches[branch]
        return decode(prompt.tolist(), ids.tolist(), self._policy.tokenizer)

    def _logprobs(
        self, need: Need, model: LoadedModel | None, rows: RowsByPrompt
    ) -> Sequence[Float32[np.ndarray, " _response"] | None]:
        """Of every response under a model that the source reads; None for each where it reads no such one."""
        if need not in self._source.needs:
            return [None] * len(rows.places)
        assert model is not None, "check_training asks for the models of a source"
        read = read_tracks(model, rows.rows, self._token_budget, with_distribution=False)
        return [read[row][branch].logprobs for row, branch in rows.places]

    def _values(
        self,
        rows: RowsByPrompt,
        prompts: Sequence[PromptSaid],
        drawn: Sequence[Drawn],
        decoded: Sequence[Decoded | None],
    ) -> Sequence[Float32[np.ndarray, " _places"] | None]:
        """V_0 and V_t of every response; None for each without a reward model."""
        judge = self._frozen.reward_model
        if judge is None:
            return [None] * len(drawn)
        if self._read_as_drawn(prompts):
            read = read_values(judge, rows.rows, self._token_budget)
            return [read[row][branch] for row, branch in rows.places]
        texts = [one for one in decoded if one is not None]
        template = ChatTemplate(self._policy.tokenizer, self._template_date)
        begun = {
            prompt: "" if isinstance(prompt, str) else template.begun("a rollout", prompt)
            for prompt in dict.fromkeys(prompts)
        }
        theirs = [
            _tokens_of(judge, prompt, begun[prompt], text.text, answer.ended, self._template_date)
            for prompt, text, answer in zip(prompts, texts, drawn, strict=True)
        ]
        judged = rows_by_prompt([(one.prompt, one.ids) for one in theirs], self._token_budget)
        closings: list[list[np.ndarray]] = [[] for _ in judged.rows]
        for one, (row, _) in zip(theirs, judged.places, strict=True):
            closings[row].append(one.closing)
        read = read_values(judge, judged.rows, self._token_budget, closings)
        return [
            align_values(values, one.offsets, text.offsets)
            for values, one, text in zip(judged.flat(read), theirs, texts, strict=True)
        ]

    def _read_as_drawn(self, prompts: Sequence[PromptSaid]) -> bool:
        """Whether the reward model, if there is one, reads the very tokens that the policy drew: it has a
        template of its own for conversations, and another end of them."""
        if self._frozen.reward_model is None:
            return True
        return self._judge_has_our_tokens and all(isinstance(prompt, str) for prompt in prompts)


def _tokens_of(
    judge: LoadedModel, prompt: PromptSaid, begun: str, text: str, ended: bool, day: date | None
) -> TokenisedResponse:
    """Prompt and response as a reward model with its own tokenizer reads them: what the policy's generation
    prompt had `begun` of the response stands before its text, and no offset counts it."""
    said = begun + text
    pair = PreferencePair("a rollout", prompt, Response(said or "."), None)
    (one,) = tokenise(
        [pair],
        judge.tokenizer,
        append_eos=ended,
        max_response_tokens=2**31 - 1,
        judged=True,
        template_date=day,
    )
    if not said:  # The tokenizer takes no empty response; what is left of this one is its end, if any.
        kept = int((one.offsets[:, 0] > 0).sum())
        ids = one.ids[len(one.ids) - kept :]
        one = replace(one, ids=ids, offsets=np.zeros((kept, 2), np.int32), seen=kept)
        if isinstance(prompt, str):  # What stood for a response may have merged with the prompt.
            one = replace(one, prompt=tokenise_prompts([pair], judge.tokenizer)[0])
    one = replace(one, offsets=np.maximum(one.offsets - len(begun), 0))
    fitted = fit(one, judge.info.context, judge.tokenizer.bos_token_id)
    if fitted.seen < len(fitted.ids):
        raise RequestError(
            f"A response has {len(one.ids):,} tokens for the reward model `{judge.info.path}`, which reads "
            f"{judge.info.context:,}; lower `sampling.max_new_tokens`."
        )
    return fitted


def _same_tokens(one: LoadedModel, other: LoadedModel) -> bool:
    """Whether both tokenizers give the same tokens the same ids."""
    if one.tokenizer is other.tokenizer:
        return True
    same: bool = one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    return same
