"""Responses that the policy gives now, and what the policy, its reference and the frozen models say of them.

A rollout is drawn from a seed made of the run's seed, the rollout phase, the prompt's place in the batch and
the number of the response, so that it depends neither on how a batch is split nor on the number of processes.
Decided here [ours]:

- The old log-probabilities and values are read by the trained model as losses read it, not taken from the
  sampler: the first ratio is 1 up to rounding. They are those at temperature 1 whatever the sampling's is.
- A response that reaches `max_new_tokens` is rewarded as it stands, without a penalty, and is counted
  (`train/truncated`). It has no EOS, so that none is learned from it.
- Every process hears of all rollouts: baselines, scales and whitening are over the whole batch, and any
  process may learn from any rollout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch.distributed
from jaxtyping import Float32, Int32

from engine.endings import ends_of_responses
from engine.errors import RequestError
from engine.sampling import sample
from engine.sources import SourceName
from engine.training.data import batch_of
from engine.training.frozen import FrozenModels
from engine.training.method import Sampling
from engine.training.method_loop import Shard, Sums
from engine.training.request import TrainingRequest
from engine.training.rollout_rewards import ResponseRewards, RolloutRewards
from engine.training.shared_prompts import rows_by_prompt
from engine.training.trained_model import TrainedModel
from engine.types import Message

EVALUATED_PROMPTS = 64
"""Held-out prompts that an evaluation answers, at most."""
EVALUATION_PHASE = 2**32 - 1
"""Stands in the place of a rollout phase in the seeds of evaluations: each of them draws alike."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What responses are sampled to."""

    keys: tuple[str, ...]
    texts: tuple[str | tuple[Message, ...], ...]
    """As the data hold them."""
    ids: tuple[Int32[np.ndarray, " _prompt"], ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """A response with all that is known of it. Arrays have one entry a token of the response."""

    place: int
    """Of its prompt in the batch, from 0."""
    number: int
    """Among the responses to its prompt, from 0."""
    prompt: Int32[np.ndarray, " prompt"]
    ids: Int32[np.ndarray, " response"]
    ended: bool
    """Whether its last token is an EOS."""
    logprobs: Float32[np.ndarray, " response"]
    """Nats, of the policy that drew it."""
    reference_logprobs: Float32[np.ndarray, " response"]
    entropies: Float32[np.ndarray, " response"]
    values: Float32[np.ndarray, " response+1"] | None
    """Of the critic, after the prompt and after each token; None where there is no critic."""
    said: ResponseRewards
    """The rewards of the frozen models."""

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads for it, if its prompt is not shared."""
        return len(self.prompt) + len(self.ids)

    @property
    def reward(self) -> float:
        """The sequence reward, as the frozen model gives it."""
        return self.said.total

    def kl(self) -> float:
        """KL from policy to reference, estimated over the response by k3, nats."""
        difference = self.logprobs.astype(np.float64) - self.reference_logprobs
        return float((np.exp(-difference) - 1 + difference).sum())


@runtime_checkable
class Exchange(Protocol):
    """Tells every process what each of them has, in the order of their ranks."""

    def __call__(self, mine: list[Rollout]) -> list[list[Rollout]]: ...


def across_processes(mine: list[Rollout]) -> list[list[Rollout]]:
    """The exchange of a training under torch.distributed; alone, a process hears itself."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    heard: list[list[Rollout]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(heard, mine)
    return heard


class Rollouts:
    """Draws the rollouts of a training and has them rewarded."""

    def __init__(
        self,
        request: TrainingRequest,
        sampling: Sampling,
        prompts: Prompts,
        held_out: Prompts,
        frozen: FrozenModels,
        model: TrainedModel,
        source: SourceName,
        exchange: Exchange,
        *,
        values: bool = False,
        needs_text: bool = False,
    ) -> None:
        self._optimisation = request.optimisation
        self._sampling = sampling
        self._prompts = prompts
        self._held_out = held_out
        self._frozen = frozen
        self._exchange = exchange
        self._values = values
        self._rewards = RolloutRewards(
            frozen,
            model.loaded,
            source,
            request.optimisation.token_budget,
            needs_text=needs_text,
            template_date=request.data.template_date,
        )
        self._ends = ends_of_responses(model.tokenizer, model.loaded.info.eos_token_ids)

    def draw(self, phase: int, model: TrainedModel, shard: Shard) -> list[Rollout]:
        """All processes' rollouts of a rollout phase, by place and number; alike in every process."""
        batch = batch_of(phase, self._optimisation.batch_size, len(self._prompts), self._optimisation.seed)
        wanted = [
            _Wanted(self._prompts, at, place, number, phase)
            for place, at in shard.take(list(enumerate(batch)))
            for number in range(self._sampling.responses)
        ]
        mine = self._drawn(wanted, model, values=self._values)
        heard = [rollout for of_process in self._exchange(mine) for rollout in of_process]
        return sorted(heard, key=lambda rollout: (rollout.place, rollout.number))

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        """Reward, KL and length of one response to each of the first held-out prompts."""
        places = shard.take(range(min(len(self._held_out), EVALUATED_PROMPTS)))
        wanted = [_Wanted(self._held_out, at, at, 0, EVALUATION_PHASE) for at in places]
        drawn = self._drawn(wanted, model, values=False)
        if not len(self._held_out):
            return {}
        tokens = float(sum(len(one.ids) for one in drawn))
        return {
            "held_out/reward": (sum(one.reward for one in drawn), float(len(drawn))),
            "held_out/kl": (sum(one.kl() for one in drawn), tokens),
            "held_out/response_tokens": (tokens, float(len(drawn))),
        }

    def _drawn(self, wanted: Sequence[_Wanted], model: TrainedModel, *, values: bool) -> list[Rollout]:
        if not wanted:
            return []
        with model.still():
            drawn = sample(
                model.language_model,
                [one.ids for one in wanted],
                [one.seed(self._optimisation.seed) for one in wanted],
                eos=self._ends,
                max_new_tokens=[self._room(one) for one in wanted],
                temperature=self._sampling.temperature,
                top_p=self._sampling.top_p,
                token_budget=self._optimisation.token_budget,
            )
        budget = self._optimisation.token_budget
        rows = rows_by_prompt(
            [(one.ids, answer.ids) for one, answer in zip(wanted, drawn, strict=True)], budget
        )
        policy = rows.flat(model.read_quietly(rows.rows, budget, entropies=True, values=values))
        reference = rows.flat(self._frozen.reference_logprobs(model, rows.rows, budget))
        said = self._rewards(rows, [one.text for one in wanted], drawn)
        return [
            Rollout(
                place=one.place,
                number=one.number,
                prompt=one.ids,
                ids=answer.ids,
                ended=answer.ended,
                logprobs=tracks["logprobs"],
                reference_logprobs=reference_track,
                entropies=tracks["entropies"],
                values=tracks.get("values"),
                said=rewards,
            )
            for one, answer, tracks, reference_track, rewards in zip(
                wanted, drawn, policy, reference, said, strict=True
            )
        ]

    def _room(self, one: _Wanted) -> int:
        """The most new tokens that every model which reads them has a place for."""
        context = self._rewards.context
        room = self._sampling.max_new_tokens
        if context is not None:
            room = min(room, context - len(one.ids))
        if room < 1:
            raise RequestError(
                f"The prompt of row `{one.key}` has {len(one.ids):,} tokens and leaves no room for a "
                f"response within the {context:,} that the models read; lower `data.max_prompt_tokens`."
            )
        return room


class _Wanted(NamedTuple):
    """A response to be drawn."""

    prompts: Prompts
    at: int
    """Position of the prompt among `prompts`."""
    place: int
    number: int
    phase: int

    @property
    def key(self) -> str:
        return self.prompts.keys[self.at]

    @property
    def text(self) -> str | tuple[Message, ...]:
        return self.prompts.texts[self.at]

    @property
    def ids(self) -> Int32[np.ndarray, " prompt"]:
        return self.prompts.ids[self.at]

    def seed(self, seed: int) -> int:
        state = np.random.SeedSequence([seed, self.phase, self.place, self.number])
        return int(state.generate_state(1, np.uint64)[0])
