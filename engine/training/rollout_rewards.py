"""What the frozen models say of responses that were just sampled, on the tokens of the trained model.

The sequence reward is the total of the source: the sum of the implicit rewards, or V_T of a reward model,
which stands for its increments too although they sum to V_T - V_0, for V_0 says nothing of the response.
Where a reward model stands beside a scorer, the scorer rewards tokens and the reward model the whole. [ours]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from engine.errors import RequestError
from engine.language_models import LoadedModel
from engine.ragged import Row
from engine.reading import read_lanes, read_values
from engine.requests import ScoreRequest
from engine.sampling import Drawn
from engine.sources.implicit import implicit_rewards
from engine.sources.rm_increment import rm_increment_rewards
from engine.sources.rm_prefix import rm_prefix_rewards
from engine.tokens import Decoded, TokenisedResponse, align_values, decode, fit, tokenise
from engine.training.frozen import FrozenModels
from engine.training.shared_prompts import RowsByPrompt
from engine.types import Message, PreferencePair, Response, SourceName

BETA = float(ScoreRequest.model_fields["beta"].default)
"""Of the implicit reward; scales what is shown, for training takes rewards in their own deviations."""
_Lane = Float32[np.ndarray, " _places"]
"""One number a token, or with one before them."""
PromptSaid = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
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
    ) -> None:
        self._frozen = frozen
        self._policy = policy
        self._source = source
        self._token_budget = token_budget
        judge = frozen.reward_model
        self._judge_has_our_tokens = judge is not None and _same_tokens(policy, judge)
        self._needs_text = needs_text or (judge is not None and not self._judge_has_our_tokens)
        readers = [policy, frozen.reference, frozen.scorer, frozen.scorer_reference]
        readers += [judge] if self._judge_has_our_tokens else []
        contexts = [one.info.context for one in readers if one is not None and one.info.context is not None]
        self.context = min(contexts, default=None)
        """The most tokens, of prompt and response, that every model with the policy's tokenizer reads."""

    def __call__(
        self, rows: RowsByPrompt, prompts: Sequence[PromptSaid], drawn: Sequence[Drawn]
    ) -> list[Said]:
        """The rewards of the responses `drawn` to `prompts`, which stand in `rows` in the same order."""
        decoded: list[Decoded | None] = [None] * len(drawn)
        if self._needs_text:
            decoded = [self._decoded(rows, index) for index in range(len(drawn))]
        implicit = self._implicit(rows) if self._source == "implicit" else None
        values = None
        if self._frozen.reward_model is not None:
            values = self._values(rows, prompts, drawn, decoded)
        return [
            self._said(
                None if implicit is None else implicit[index],
                None if values is None else values[index],
                decoded[index],
            )
            for index in range(len(drawn))
        ]

    def _said(self, implicit: _Lane | None, values: _Lane | None, decoded: Decoded | None) -> Said:
        if implicit is not None:
            total = float(implicit.sum(dtype=np.float64)) if values is None else float(values[-1])
            return Said(total, implicit, implicit, decoded)
        assert values is not None, "check_training asks for the reward model of its sources"
        increments = rm_increment_rewards(values)
        rewards = rm_prefix_rewards(values) if self._source == "rm_prefix" else increments
        return Said(float(values[-1]), rewards, increments, decoded)

    def _decoded(self, rows: RowsByPrompt, index: int) -> Decoded:
        row, branch = rows.places[index]
        prompt, ids = rows.rows[row].prompt, rows.rows[row].branches[branch]
        return decode(prompt.tolist(), ids.tolist(), self._policy.tokenizer)

    def _implicit(self, rows: RowsByPrompt) -> list[Float32[np.ndarray, " _response"]]:
        scorer, reference = self._frozen.scorer, self._frozen.scorer_reference
        assert scorer is not None, "check_training asks for the scorer of this source"
        assert reference is not None, "load_frozen gives every scorer its reference"
        ours, theirs = (
            read_lanes(one, rows.rows, self._token_budget, with_distribution=False)
            for one in (scorer, reference)
        )
        return [
            implicit_rewards(ours[row][branch].logprobs, theirs[row][branch].logprobs, BETA)
            for row, branch in rows.places
        ]

    def _values(
        self,
        rows: RowsByPrompt,
        prompts: Sequence[PromptSaid],
        drawn: Sequence[Drawn],
        decoded: Sequence[Decoded | None],
    ) -> list[Float32[np.ndarray, " _response"]]:
        judge = self._frozen.reward_model
        assert judge is not None
        if self._judge_has_our_tokens:
            read = read_values(judge, rows.rows, self._token_budget)
            return [read[row][branch] for row, branch in rows.places]
        texts = [one for one in decoded if one is not None]
        theirs = [
            _tokens_of(judge, prompt, text.text, answer.ended)
            for prompt, text, answer in zip(prompts, texts, drawn, strict=True)
        ]
        read = read_values(judge, [Row(one.prompt, (one.ids,)) for one in theirs], self._token_budget)
        return [
            align_values(values[0], one.offsets, text.offsets)
            for values, one, text in zip(read, theirs, texts, strict=True)
        ]


def _tokens_of(judge: LoadedModel, prompt: PromptSaid, text: str, ended: bool) -> TokenisedResponse:
    """Prompt and response as a reward model with its own tokenizer reads them."""
    pair = PreferencePair("a rollout", prompt, Response(text or "."), None)
    (one,) = tokenise([pair], judge.tokenizer, append_eos=ended, max_response_tokens=2**31 - 1)
    if not text:  # The tokenizer takes no empty response; what is left of this one is its EOS, if any.
        kept = int(one.eos is not None)
        one = replace(
            one, ids=one.ids[len(one.ids) - kept :], offsets=np.zeros((kept, 2), np.int32), seen=kept
        )
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
