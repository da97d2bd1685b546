"""From token rewards to a mask: the rule, with what each segmenter may be told.

Imports no torch, so that the web process may use it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.fields import StrictModel


class Hysteresis(StrictModel):
    """The signal turns when a scaled reward leaves the band (-delta, delta) on the other side [sibling]."""

    name: Literal["hysteresis"] = "hysteresis"
    delta: float = Field(0.3, ge=0)
    min_len: int = Field(1, ge=1)
    """Segments shorter than this are merged, shortest first, into the neighbour nearer in mean [ours]."""
    smoothing: Literal["none", "median", "ema"] = "none"
    """What smooths the rewards before the rule: a median of 5, or an exponential average with weight .5."""


class Whole(StrictModel):
    """One segment that always agrees: sample-wise supervision."""

    name: Literal["whole"] = "whole"


class Token(StrictModel):
    """Every token is a segment: token-wise supervision."""

    name: Literal["token"] = "token"


class Fixed(StrictModel):
    """A segment every `length` tokens."""

    name: Literal["fixed"] = "fixed"
    length: int = Field(4, ge=1)


class Step(StrictModel):
    """A segment ends with the token that contains a line break: step-wise supervision."""

    name: Literal["step"] = "step"


class Clause(StrictModel):
    """A segment ends with a punctuation mark or a line break: step-wise supervision of plain text."""

    name: Literal["clause"] = "clause"


class Sentence(StrictModel):
    """A segment a sentence, as a sentence-splitting library sees them."""

    name: Literal["sentence"] = "sentence"
    language: str = Field("en", pattern="^[a-z]{2}$")


class Entropy(StrictModel):
    """A token ends a segment when the entropy of its distribution exceeds `threshold` nats
    (arXiv 2501.02790)."""

    name: Literal["entropy"] = "entropy"
    threshold: float = Field(1.75, ge=0)


class Changepoint(StrictModel):
    """Segments of constant mean: the optimum that PELT finds for a squared cost, found exactly.

    `penalty` is in units of log(T) times the variance of the noise.
    """

    name: Literal["changepoint"] = "changepoint"
    penalty: float = Field(2.0, gt=0)
    min_len: int = Field(1, ge=1)


Segmenter = Annotated[
    Hysteresis | Whole | Token | Fixed | Step | Clause | Sentence | Entropy | Changepoint,
    Field(discriminator="name"),
]

Baseline = Literal["zero", "batch_mean", "median", "otsu", "sequence_mean"]
Scale = Literal["none", "std"]
Aggregate = Literal["mean", "sum", "last", "min", "max_abs"]


class SegmentationRule(StrictModel):
    """All that turns token rewards into a mask (METHOD section 3), with its defaults.

    s_t = (r_t - baseline) / scale; the segmenter cuts s; each segment gets a reward and a polarity; a segment
    is kept iff sign * polarity > 0.
    """

    segmenter: Segmenter = Hysteresis()
    baseline: Baseline | float = "zero"
    """b of the scale. `batch_mean`, `median` and `otsu` are taken over the run, `sequence_mean` over the
    response. A number is taken as it is."""
    scale: Scale | Annotated[float, Field(gt=0)] = "none"
    """q of the scale: 1, the standard deviation of the run's rewards, or a number. 0 counts as 1."""
    aggregate: Aggregate = "mean"
    """How a segment's reward is made of its scaled token rewards."""
    polarity: Literal["signal", "reward"] = "signal"
    """What the mask asks for the sign: the signal [sibling figure], or the sign of the segment reward."""
    neutral: Literal["keep", "drop"] = "keep"
    eos: Literal["keep", "inherit"] = "keep"
    """`keep`: the EOS token always counts, or stopping is never learned. `inherit`: as its segment."""
    nothing_kept: Literal["skip", "fallback_sample", "zero"] = "skip"
    """`skip`: weight 0 and out of the mean's denominator; `fallback_sample`: the whole response counts;
    `zero`: weight 0, but counted in the denominator."""
    margin: float = Field(0.0, ge=0)
    """Drop only segments with sign * reward < -margin * (standard deviation of the run)."""
    soft_tau: float | None = Field(None, gt=0)
    """Temperature of the soft weights sigmoid(sign * reward / tau); None keeps the mask hard."""


class SegmentationRequest(SegmentationRule):
    """The body of `POST /api/v1/segmentations` and of `rewardscope segment FILE`: a rule and one response.

    The run-wide baselines and scales are taken over this one response.
    """

    token_rewards: list[float | None] = Field(min_length=1, max_length=200_000)
    """One a token; null where the reward is missing."""
    sign: Literal[1, -1] = 1
    """+1: the response was chosen or has a positive advantage; -1: rejected."""
    ends_with_eos: bool = True
    """Whether the last token is the EOS, which `eos: keep` protects."""
    entropies: list[float] | None = None
    """Nats, one a token: the `entropy` segmenter needs them."""
    text: str | None = None
    """The response; the `step`, `clause` and `sentence` segmenters need it, together with `offsets`."""
    offsets: list[tuple[int, int]] | None = None
    """Code points [start, end) of every token in `text`."""

    @model_validator(mode="after")
    def _lists_have_one_entry_a_token(self) -> SegmentationRequest:
        tokens = len(self.token_rewards)
        for name in ("entropies", "offsets"):
            values = getattr(self, name)
            if values is not None and len(values) != tokens:
                raise ValueError(f"`{name}` has {len(values)} entries for {tokens} token rewards.")
        if self.segmenter.name == "entropy" and self.entropies is None:
            raise ValueError("The `entropy` segmenter needs `entropies`, one a token.")
        if self.segmenter.name in ("step", "clause", "sentence") and (
            self.text is None or self.offsets is None
        ):
            raise ValueError(f"The `{self.segmenter.name}` segmenter needs `text` and `offsets`.")
        return self

    def rule(self) -> SegmentationRule:
        """The rule alone, without the response."""
        return SegmentationRule.model_validate(
            {name: getattr(self, name) for name in SegmentationRule.model_fields}
        )
