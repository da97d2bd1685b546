"""What a policy thinks of preference pairs: which response is likelier, and where it sees errors.

Knows pairs and log-probabilities; figures come with their intervals over pairs. Log-probabilities beyond the
context are missing and left out of sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from engine.evaluation.figures import figure, parts_of
from engine.evaluation.intervals import Interval, ratio_interval, share_interval
from engine.evaluation.localisation import LocalisationTally, boundary_hits, label_boundaries, token_labels
from engine.evaluation.request import EvaluationRequest, Figure
from engine.language_models import memory_advice
from engine.masks import segment_response
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import OUT_OF_MEMORY, Models, fitted, tracks
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES
from engine.sources.implicit import implicit_rewards
from engine.tokens import TokenisedResponse
from engine.types import SIGN, PreferencePair

CHUNK_PAIRS = 128
PART_COLUMNS = ("category", "part", "subset", "source")
"""What may name the part of a row, in its `meta`; the first one that is there does."""


class ReadResponse(NamedTuple):
    """One side of a pair, as policy and reference see it."""

    tokens: TokenisedResponse
    logprobs: Float32[np.ndarray, " response"]
    reference_logprobs: Float32[np.ndarray, " response"] | None


class ReadPair(NamedTuple):
    """A pair with what was read of its sides; one of them may be missing."""

    pair: PreferencePair
    chosen: ReadResponse | None
    rejected: ReadResponse | None


def score_request(request: EvaluationRequest) -> ScoreRequest:
    """The numbers of reading, as scoring takes them."""
    return ScoreRequest(
        policy=request.model,
        reference=request.reference,
        sources=[SourceRequest(name="spans" if request.reference is None else "implicit")],
        beta=request.beta,
        device=request.device,
        dtype=request.dtype,
        token_budget=request.token_budget,
        max_response_tokens=request.max_response_tokens,
    )


def read_pairs(pairs: Iterable[PreferencePair], models: Models, request: ScoreRequest) -> Iterator[ReadPair]:
    """The pairs as policy and reference read them, in order; memory holds CHUNK_PAIRS of them."""
    rows = iter(pairs)
    while chunk := list(itertools.islice(rows, CHUNK_PAIRS)):
        with memory_advice(OUT_OF_MEMORY):
            responses = fitted(chunk, models, request)
            policy = tracks(models.policy, responses, request, with_distribution=False)
            reference = policy
            if models.reference is not models.policy:
                reference = tracks(models.reference, responses, request, with_distribution=False)
        read = {}
        for one, ours, theirs in zip(responses, policy, reference, strict=True):
            assert ours is not None
            theirs_read = None if theirs is None else theirs.logprobs
            read[one.key, one.side] = ReadResponse(one, ours.logprobs, theirs_read)
        for pair in chunk:
            yield ReadPair(pair, read.get((pair.key, "chosen")), read.get((pair.key, "rejected")))


def part_of(pair: PreferencePair) -> str:
    """The part of the data that a row is of; empty where its `meta` says none."""
    found = next((pair.meta[name] for name in PART_COLUMNS if pair.meta.get(name) is not None), "")
    return found if isinstance(found, str) and len(found) <= 100 else ""


# ---------------------------------------------------------------------------------------- which is likelier


@dataclass
class _PairNumbers:
    """Sums of one pair; NaN where a side or the reference is missing."""

    part: str
    chosen: float
    rejected: float
    chosen_reference: float
    rejected_reference: float
    tokens: int
    """Chosen tokens that were read."""


@dataclass
class PreferenceTally:
    """Collects pairs, and says how often a policy prefers what people chose."""

    _pairs: list[_PairNumbers] = field(default_factory=list)

    def add(self, read: ReadPair) -> None:
        chosen, rejected = read.chosen, read.rejected
        self._pairs.append(
            _PairNumbers(
                part_of(read.pair),
                _sum(None if chosen is None else chosen.logprobs),
                _sum(None if rejected is None else rejected.logprobs),
                _sum(None if chosen is None else chosen.reference_logprobs),
                _sum(None if rejected is None else rejected.reference_logprobs),
                0 if chosen is None else int((~np.isnan(chosen.logprobs)).sum()),
            )
        )

    def figures(self, confidence: float) -> list[Figure]:
        """Pair accuracy, implicit accuracy and held-out loss, of all pairs and of each part."""
        return [one for part in ["", *self.parts()] for one in self._figures_of(part, confidence)]

    def parts(self) -> list[str]:
        """The parts that have figures of their own."""
        return parts_of(one.part for one in self._pairs)

    def _figures_of(self, part: str, confidence: float) -> Iterator[Figure]:
        chosen_pairs = [one for one in self._pairs if part in ("", one.part)]
        columns = [
            np.array([getattr(one, name) for one in chosen_pairs], np.float64)
            for name in ("chosen", "rejected", "chosen_reference", "rejected_reference", "tokens")
        ]
        chosen, rejected, chosen_reference, rejected_reference, tokens = columns
        reference = _wins(chosen_reference, rejected_reference)
        both = _wins(chosen, rejected)
        if len(both):
            yield figure("pair_accuracy", part, share_interval(both, confidence), len(both), _mean(reference))
        implicit = _wins(chosen - chosen_reference, rejected - rejected_reference)
        if len(implicit):
            found = share_interval(implicit, confidence)
            yield figure("implicit_accuracy", part, found, len(implicit), None)
        there = tokens > 0
        if there.any():
            loss = ratio_interval(-chosen[there], tokens[there], confidence)
            of_reference = ratio_interval(-chosen_reference[there], tokens[there], confidence).value
            count = int(tokens.sum())
            yield figure("held_out_loss", part, loss, count, of_reference, lowest=0.0)


def _sum(logprobs: np.ndarray | None) -> float:
    return float("nan") if logprobs is None else float(np.nansum(logprobs.astype(np.float64)))


def _wins(first: Float64[np.ndarray, " pairs"], second: Float64[np.ndarray, " pairs"]) -> np.ndarray:
    """1 where the first is higher, .5 where they are equal, 0 where it is lower; without the missing ones."""
    difference = first - second
    difference = difference[~np.isnan(difference)]
    wins: Float64[np.ndarray, " known"] = (np.sign(difference) + 1) / 2
    return wins


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


# ------------------------------------------------------------------------------------- where it sees errors


class _Annotated(NamedTuple):
    """One response that somebody annotated."""

    part: str
    sign: int
    rewards: Float32[np.ndarray, " response"]
    boundaries: list[int]
    ends_with_eos: bool


@dataclass
class ErrorsFoundTally:
    """Collects implicit rewards, and says how well they point at labelled errors.

    Boundaries are compared with the pivots of the source's default rule, whose baseline and scale are those
    of all rewards added.
    """

    beta: float
    _localisation: dict[str, LocalisationTally] = field(default_factory=dict)
    _statistics: RewardStatistics = field(default_factory=RewardStatistics)
    _annotated: list[_Annotated] = field(default_factory=list)

    def add(self, read: ReadPair) -> None:
        """Counts the sides that have a reference's reading."""
        for side in ("chosen", "rejected"):
            one: ReadResponse | None = getattr(read, side)
            if one is None or one.reference_logprobs is None:
                continue
            rewards = implicit_rewards(one.logprobs, one.reference_logprobs, self.beta)
            self._statistics.add(rewards)
            spans = one.tokens.response.spans
            if spans is None:
                continue
            labels = token_labels(spans, one.tokens.offsets)
            part = part_of(read.pair)
            self._localisation.setdefault(part, LocalisationTally()).add(rewards, labels)
            sign, ends = SIGN[one.tokens.side], one.tokens.eos is not None
            self._annotated.append(_Annotated(part, sign, rewards, label_boundaries(labels), ends))

    def figures(self, confidence: float) -> list[Figure]:
        """AUROC and boundary F1, of all annotated responses and of each part; none where nothing is labelled
        wrong."""
        hits = self._boundary_hits()
        figures = []
        for part in ["", *parts_of(one.part for one in self._annotated)]:
            tally = LocalisationTally()
            for name, other in self._localisation.items():
                if part in ("", name):
                    tally.merge(other)
            found = tally.result(confidence)
            if found.value is None:
                continue
            interval = Interval(found.value, found.low, found.high)
            figures.append(figure("auroc", part, interval, found.wrong + found.right, None))
            inside = [part in ("", one.part) for one in self._annotated]
            rows = np.array(hits)[inside]
            f1 = ratio_interval(2 * rows[:, 0], rows[:, 1], confidence)
            figures.append(figure("boundary_f1", part, f1, len(rows), None, lowest=0.0, highest=1.0))
        return figures

    def _boundary_hits(self) -> list[tuple[float, float]]:
        """Of every response how many boundaries were hit, and how many pivots and boundaries it has."""
        rule = SOURCES["implicit"].default_rule
        found = []
        for one in self._annotated:
            cut = segment_response(
                one.rewards, one.sign, rule, self._statistics, ends_with_eos=one.ends_with_eos
            )
            pivots = cut.pivots.tolist()
            hits = boundary_hits(pivots, one.boundaries)
            found.append((float(hits), float(len(pivots) + len(one.boundaries))))
        return found
