"""What a training method says of itself: its fields, what it learns from, and how its loop is made.

A method is a file of `engine/training/methods`, which registers a `Method` in `METHODS` and imports no torch:
the web process reads it too. Its loop and its loss are imported where the loop is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union

from pydantic import Field

from engine.fields import StrictModel, shown
from engine.model_files import ModelKind
from engine.registry import Registry
from engine.rules import SegmentationRule
from engine.segmentation.segments import Aggregate
from engine.sources import SOURCES, SourceName
from engine.training.densities import DENSITIES, Density, rule_of

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest

LearnsFrom = Literal["pair", "chosen", "prompt"]
"""What a row must have: both responses, the chosen one, or a prompt alone."""


class Sampling(StrictModel):
    """How responses are drawn from the policy."""

    responses: int = Field(4, ge=1, le=256, title="Group size")
    """Responses to each prompt."""
    temperature: float = Field(1.0, gt=0, title="Temperature")
    """Divides logits before sampling."""
    top_p: float = Field(1.0, gt=0, le=1, title="Top-p")
    """Nucleus sampling: from the likeliest tokens that have this probability together."""
    max_new_tokens: int = Field(
        256, ge=1, title="Max completion length", json_schema_extra=shown(unit="tokens")
    )
    """A longer response is cut off."""


class MethodFields(StrictModel):
    """What a request says of its method. Each method has its own fields; `name` tells which.

    A field `sampling` that is not None makes a method learn from responses that the policy gives now.
    """

    name: str

    @property
    def declared(self) -> Method:
        """The method that these are the fields of."""
        return METHODS[self.name]

    @property
    def sampled(self) -> Sampling | None:
        """How responses are drawn; None where the responses of the data are learned from."""
        sampling: Sampling | None = getattr(self, "sampling", None)
        return sampling

    @property
    def samples(self) -> bool:
        """Whether it learns from what the policy says now, rather than from the responses of the data."""
        return self.sampled is not None

    @property
    def learns_from(self) -> LearnsFrom:
        """What a row must have to be of use."""
        return "prompt" if self.samples else self.declared.learns_from

    @property
    def reads_reference(self) -> bool:
        """Whether a frozen reference is read: for log-ratios, or for the KL of what is sampled."""
        return self.declared.compares or self.samples

    @property
    def best_by(self) -> str:
        """The held-out metric by which checkpoints are compared; of a loss the lowest is best."""
        return "held_out/reward" if self.samples else self.declared.best_by


class Rates(NamedTuple):
    """Learning rates of a small and of a large model (see `resolve.learning_rate`)."""

    small: float
    large: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart of what a method leaves while it trains, beside what all of its kind leave."""

    group: Literal["loss", "preference", "policy", "mask"]
    title: str
    lines: Mapping[str, str]
    """Metrics by what their lines are called, as in {"train": "train/value_loss"}."""


def _no_check(request: TrainingRequest) -> None:
    """Refuses nothing."""


def _no_warnings(request: TrainingRequest) -> list[str]:
    """Warns of nothing."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """All that is known of a method before it runs."""

    name: str
    title: str
    """What people call it, as in a table: `DPO`."""
    sentence: str
    """What it is, said behind its title: `preference loss on kept tokens`."""
    fields: type[MethodFields]
    learns_from: LearnsFrom
    """Without `sampling`."""
    rates: Rates
    best_by: str = "held_out/accuracy"
    """Without `sampling`, as of `MethodFields.best_by`."""
    offline: Callable[[OfflineData], MethodLoop[Any]] | None = None
    """Makes its loop on the responses of the data; None where it always samples."""
    on_policy: Callable[[PromptData], MethodLoop[Any]] | None = None
    """Makes its loop on responses that are sampled; None where it never samples."""
    compares: bool = False
    """Whether its loss compares the policy with a frozen reference, even where it samples nothing."""
    masks: bool = False
    """Whether every density but `sample` masks tokens of the data, for which it needs token rewards."""
    critic: bool = False
    """Whether a causal LM is given a scalar head, whose values are learned beside the policy."""
    trains: ModelKind = "causal_lm"
    """The kind of model that comes out. A classifier may begin as a causal LM, whose body it takes."""
    in_recipes: bool = True
    """Whether it makes policies that a recipe compares."""
    densities: tuple[Density, ...] = DENSITIES
    """Those that it knows, as fine as its supervision can be."""
    why_densities: str = ""
    """The sentence that refuses all others."""
    likelihood: bool = False
    """Whether it learns the likelihood of what is kept: its default rule takes the baseline that the source
    has for that. It may mask a right token, and must not learn a wrong one (METHOD section 8) [ours]."""
    aggregate: Aggregate | None = None
    """How its default rule makes segment rewards; None: as the source's own."""
    cuts_held_out: bool = False
    """Whether held-out responses are cut too, for segments say where they are read and mask nothing."""
    curves: tuple[Curve, ...] = ()
    """Metrics that are its own; one that nobody declares has a chart under its name."""
    check: Callable[[TrainingRequest], None] = _no_check
    """Raises RequestError where its fields contradict each other or the rest of the request."""
    warnings: Callable[[TrainingRequest], list[str]] = _no_warnings
    """Sentences to read before such a training is started."""

    @property
    def takes_rewards(self) -> bool:
        """Whether rewards of frozen models are of use to it: for masks, or for what it samples."""
        return self.masks or self.on_policy is not None

    @property
    def starts_from(self) -> tuple[ModelKind, ...]:
        """The kinds of models that it can begin with."""
        return ("causal_lm",) if self.trains == "causal_lm" else ("causal_lm", self.trains)

    def rule_for(
        self, density: Density, source: SourceName, base: SegmentationRule | None = None
    ) -> SegmentationRule:
        """The rule of a density for rewards of this source, unless a request states another; `base` as of
        `rule_of`."""
        changes: dict[str, Any] = {}
        if self.likelihood and SOURCES[source].likelihood_baseline is not None:
            changes["baseline"] = SOURCES[source].likelihood_baseline
        if self.aggregate is not None:
            changes["aggregate"] = self.aggregate
        return rule_of(density, source, base).model_copy(update=changes)


def any_of(methods: Iterable[Method]) -> Any:
    """The type of the fields of any of these methods, told apart by `name`; as pydantic reads it."""
    return Annotated[Union[tuple(method.fields for method in methods)], Field(discriminator="name")]  # noqa: UP007


METHODS: Registry[Method] = Registry("methods")
"""Every method, once `engine.training.methods` is imported, which fills it."""
