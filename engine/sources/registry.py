"""What a source of token rewards declares, what it sees of a response, and all sources by name.

A source is one file that ends in `SOURCES.register(Source(...))`: here in `engine/sources`, or anywhere if an
entry point or the environment names its module (see `engine.registry`). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Int32
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from engine.registry import Registry
from engine.rules import Baseline, SegmentationRule
from engine.types import Response

Kind = Literal["increment", "level", "label"]
Need = Literal["policy", "reference", "reward_model", "spans", "token_rewards", "logprobs"]
MODELS: tuple[Need, ...] = ("policy", "reference", "reward_model")
"""Needs that are models of the request."""
COLUMNS: Mapping[Need, str] = {
    "spans": "labelled spans",
    "token_rewards": "token rewards",
    "logprobs": "tokens with log-probabilities of policy and reference",
}
"""Needs that the data bring, and what a sentence calls them."""

AS_THEY_ARE = SegmentationRule(baseline="zero", scale="none")
"""The default rule of rewards that have a zero and a unit of their own [ours]."""

Rewards = Float32[np.ndarray, " response"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What is known of one response. A model's numbers are None where the request names no such model."""

    name: str
    """What a sentence calls the response, as in: The chosen response of row `7`."""
    response: Response
    """Its text, and the spans and token rewards that came with the data."""
    ids: Int32[np.ndarray, " response"]
    offsets: Int32[np.ndarray, "response 2"]
    """Code points [start, end) of the text, one pair a token; the EOS has (length, length)."""
    ends_with_eos: bool
    policy_logprobs: Rewards | None = None
    """Nats; NaN where nothing precedes the token, or where it lies beyond the context."""
    reference_logprobs: Rewards | None = None
    values: Float32[np.ndarray, " response+1"] | None = None
    """What the reward model reads after the prompt, and after every token."""
    beta: float = 0.1


def summed(rewards: Rewards) -> float:
    """The sum of what is not missing; NaN where all is."""
    there = rewards[~np.isnan(rewards)].astype(np.float64)
    return float(there.sum()) if len(there) else float("nan")


def last(rewards: Rewards) -> float:
    """The last one: of a level, the value of the whole response."""
    return float(rewards[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """All that is known of a source: checks, jobs, API, command line, forms and docs ask for it here."""

    name: str
    title: str
    """What a person reads in a list."""
    sentence: str
    """What the rewards are."""
    kind: Kind
    """`increment`: rewards add up to the whole; `level`: each values the prefix; `label`: each judges."""
    needs: AbstractSet[Need]
    """Models of the request (the policy of a training is its frozen scorer), or what the data bring."""
    instead: Need | None = None
    """What the data may bring in place of the models, where a request names no model at all."""
    rewards: Callable[[Evidence], Rewards]
    """One a token, NaN where it is missing: a pure function of what the needs bring."""
    identity: str = ""
    """What the rewards add up to, tested; '' where there is no such thing."""
    cannot_show: str = ""
    """A sentence for those who would take masks from it; '' where there is nothing to warn of."""
    default_rule: SegmentationRule = AS_THEY_ARE
    """How the rewards are cut. Labels and levels are taken as they are, increments in standard deviations of
    the run [ours]."""
    likelihood_baseline: Baseline | None = None
    """The default baseline where likelihood is learned from what is kept; None: that of `default_rule`."""
    total: Callable[[Rewards], float] = summed
    """The reward of the response, of its token rewards."""
    is_centred: bool = False
    """Whether sampled responses earn what lies above the mean over all their tokens: where nearly every token
    lies a little to one side, so that a plain sum pays for length."""
    reads_text: bool = True
    """Whether it reads the text or the offsets: sampled responses are decoded for it."""
    is_default: bool = True
    """Whether it is shown where nobody names a source."""

    @property
    def models(self) -> tuple[Need, ...]:
        """The models that it reads."""
        return tuple(model for model in MODELS if model in self.needs)

    @property
    def columns(self) -> tuple[Need, ...]:
        """What it reads that only the data bring."""
        return tuple(column for column in COLUMNS if column in self.needs)

    def lacks(self, has: Collection[str]) -> set[Need]:
        """Which needs are missing; none where the data bring what stands in place of the models."""
        if self.instead in has and not any(model in has for model in MODELS):
            return set()
        return set(self.needs) - set(has)

    @property
    def cost(self) -> str:
        """Which forward passes it asks for, as a sentence."""
        if not self.models:
            return "No forward pass."
        named = " and one of the ".join(model.replace("_", " ") for model in self.models)
        return f"One forward pass of the {named}."

    @property
    def rewards_rollouts(self) -> bool:
        """Whether it can reward responses that a policy has just sampled, of which the data say nothing."""
        return not self.columns

    def token_rewards(self, evidence: Evidence) -> Rewards:
        """The rewards of one response. Raises ValueError where the source gives another number of them."""
        rewards = np.asarray(self.rewards(evidence), np.float32)
        if rewards.shape != evidence.ids.shape:
            raise ValueError(
                f"The source `{self.name}` gives rewards of the shape {rewards.shape} for "
                f"{len(evidence.ids)} tokens; give one a token, NaN where it is missing."
            )
        return rewards

    def increments(self, rewards: Rewards, evidence: Evidence) -> Rewards:
        """What each token adds: its reward, or the change of a level, which begins with the value that a
        reward model gives the prompt, or else with 0."""
        if self.kind != "level":
            return rewards
        first = 0.0 if evidence.values is None else evidence.values[0]
        return np.diff(rewards.astype(np.float64), prepend=first).astype(np.float32)


def brought_by(response: Response) -> set[Need]:
    """What a response brings of what sources may need."""
    there = {
        "spans": response.spans is not None,
        "token_rewards": response.token_rewards is not None,
        "logprobs": response.logprobs is not None,
    }
    return {need for need in COLUMNS if there[need]}


SOURCES: Registry[Source] = Registry("sources")


class _Registered:
    """Allows a string the names that are registered when a field is made, in checks as in schemas."""

    @staticmethod
    def __get_pydantic_core_schema__(_type: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(SOURCES))


SourceName = Annotated[str, _Registered]
"""The name of a registered source."""


def need_in_words(need: Need) -> str:
    """What a sentence calls a need: a policy, or labelled spans in the data."""
    return f"{COLUMNS[need]} in the data" if need in COLUMNS else f"a {need.replace('_', ' ')}"


def default_sources(has: Collection[str]) -> list[str]:
    """The sources that are shown when nobody names any: all that `has` serves, in the order of SOURCES."""
    return [source.name for source in SOURCES.values() if source.is_default and not source.lacks(has)]
