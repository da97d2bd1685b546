"""From token rewards to a mask: the rule, and the request for one response to be cut by it.

The choice of segmenters is made of those that are registered. Imports no torch, so that the web process may
use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, Union

from pydantic import Field, model_validator

from engine.fields import StrictModel, shown
from engine.segmentation.segmenter import SEGMENTERS, SegmenterFields
from engine.segmentation.segmenters.hysteresis import Hysteresis  # one of the folder, which registers all
from engine.segmentation.segments import Aggregate

if TYPE_CHECKING:
    AnySegmenter: TypeAlias = SegmenterFields
else:
    AnySegmenter = Annotated[
        Union[tuple(segmenter.fields for segmenter in SEGMENTERS.values())],  # noqa: UP007 -- made at run time
        Field(discriminator="name"),
    ]

Baseline = Literal["zero", "batch_mean", "median", "otsu", "sequence_mean"]
Scale = Literal["none", "std", "mad"]


class SegmentationRule(StrictModel):
    """All that turns token rewards into a mask (METHOD section 3), with its defaults.

    s_t = (r_t - baseline) / scale; the segmenter cuts s; each segment gets a reward and a polarity; a segment
    is kept iff sign * polarity > 0.
    """

    segmenter: AnySegmenter = Field(Hysteresis(), title="Segmenter")
    """Where segments may begin."""
    baseline: Baseline | float = Field(
        "zero",
        title="Baseline",
        json_schema_extra=shown(
            words={
                "zero": "zero",
                "batch_mean": "run mean",
                "median": "run median",
                "otsu": "run Otsu threshold",
                "sequence_mean": "response mean",
            }
        ),
    )
    """What is taken off a reward to make the signal: above it is good, below it bad. `batch_mean`, `median`
    and `otsu` are taken over the run, `sequence_mean` over the response; a number is taken as it is."""
    scale: Scale | Annotated[float, Field(gt=0)] = Field(
        "none",
        title="Scale",
        json_schema_extra=shown(words={"none": "none", "std": "run deviation", "mad": "1.48 run MAD"}),
    )
    """What the signal is divided by, so that δ means the same in every run. `std` is the standard deviation
    of the run's rewards, `mad` 1.48 times the median distance from their median, which outliers do not move;
    where 0 counts as 1. A number is taken as it is."""
    aggregate: Aggregate = Field(
        "mean", title="Segment reward", json_schema_extra=shown(words={"max_abs": "max abs"})
    )
    """How the scaled rewards of a segment's tokens become one number."""
    polarity: Literal["signal", "reward"] = Field(
        "signal", title="Polarity from", json_schema_extra=shown(words={"reward": "segment reward"})
    )
    """What decides whether a segment is good or bad: the signal, or the sign of its reward."""
    neutral: Literal["keep", "drop"] = Field("keep", title="Neutral segments")
    """Whether segments without a polarity count."""
    eos: Literal["keep", "inherit"] = Field(
        "keep",
        title="End of sequence",
        json_schema_extra=shown(words={"keep": "always counts", "inherit": "as its segment"}),
    )
    """Whether the end of sequence counts although its segment is dropped. `keep`: it always does, or stopping
    is never learned; `inherit`: as its segment."""
    nothing_kept: Literal["skip", "fallback_sample", "zero"] = Field(
        "skip",
        title="Nothing kept",
        json_schema_extra=shown(
            words={
                "skip": "skip the response",
                "fallback_sample": "keep all of it",
                "zero": "count it as 0",
            }
        ),
    )
    """What becomes of a response of which no segment is kept. `skip`: weight 0 and out of the mean's
    denominator; `fallback_sample`: the whole response counts; `zero`: weight 0, but in the denominator."""
    margin: float = Field(0.0, ge=0, title="Margin", json_schema_extra=shown(unit="deviations", step=0.05))
    """Only segments that contradict by more than this, in standard deviations of the run, are dropped."""
    soft_tau: float | None = Field(
        None,
        gt=0,
        title="Soft weights",
        json_schema_extra=shown(blank="no soft weights, a hard mask", step=0.05),
    )
    """Temperature of the soft weights sigmoid(sign * reward / tau), by which segments count in part."""

    @property
    def keeps_everything(self) -> bool:
        """Whether every token counts, whatever its reward: supervision of whole responses."""
        return self.segmenter.kind.signal == "preference"


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
    """Nats, one a token, for segmenters that read entropies."""
    text: str | None = None
    """The response, for segmenters that read it, together with `offsets`."""
    offsets: list[tuple[int, int]] | None = None
    """Code points [start, end) of every token in `text`."""

    @model_validator(mode="after")
    def _lists_have_one_entry_a_token(self) -> SegmentationRequest:
        tokens = len(self.token_rewards)
        for name in ("entropies", "offsets"):
            values = getattr(self, name)
            if values is not None and len(values) != tokens:
                raise ValueError(f"`{name}` has {len(values)} entries for {tokens} token rewards.")
        lacking = self.segmenter.kind.lacks(
            has_text=self.text is not None and self.offsets is not None,
            has_entropies=self.entropies is not None,
        )
        if lacking:
            raise ValueError(lacking)
        return self

    def rule(self) -> SegmentationRule:
        """The rule alone, without the response."""
        return SegmentationRule.model_validate(
            {name: getattr(self, name) for name in SegmentationRule.model_fields}
        )
