"""What a recipe may be asked, and the plan of runs that this makes.

A step's request names what an earlier step will have made as {"made_by": step}; `filled` puts the ids in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from app.services.models.models import ModelName
from app.services.names import MAX_NAME_CHARACTERS
from app.services.recipes.words import step_label
from engine.evaluation.request import EvaluationNumbers
from engine.fields import StrictModel, shown
from engine.sources import SOURCES, Source, SourceName, default_sources
from engine.training.densities import DENSITIES, Density
from engine.training.method import MethodFields, any_of
from engine.training.methods import METHODS
from engine.training.methods.dpo import Dpo
from engine.training.methods.rjs import Rjs
from engine.training.methods.scorer import Scorer
from engine.training.request import Data, DataPart, Keeping, Lora, Machine, Optimisation

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
if TYPE_CHECKING:
    RecipeMethod = MethodFields
else:
    RecipeMethod = any_of(method for method in METHODS.values() if method.in_recipes)
StepKind = Literal["training", "scoring", "evaluation"]
COMPARED_STEPS = 200
SAME_PAIRS = (
    "The scorer learns from the very pairs that it will mask. Where those pairs often prefer an error, it "
    "learns the error too and finds nothing; give it other data, or leave the scorer's data open, so that "
    "it learns from one part and the trainings from the rest."
)


class RecipeBody(StrictModel):
    """The body of `POST /api/v1/recipes`."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        title="Name",
        json_schema_extra=shown(blank="made of the data set and the methods"),
    )
    """What the recipe and its runs are called."""
    dataset_id: Id = Field(title="Data set")
    """The pairs that every training learns from."""
    model: ModelName = Field(title="Base model")
    """What every training begins with, and the reference of them all."""
    methods: list[RecipeMethod] = Field([Dpo(), Rjs()], min_length=1, max_length=6, title="Methods")
    """Each by its name, or with its hyperparameters as {"name": ..., ...}."""
    densities: list[Density] = Field(
        list(DENSITIES), min_length=1, max_length=4, title="Supervision granularities"
    )
    """How finely responses are supervised: a training by every method for each."""
    source: SourceName | None = Field(
        None,
        title="Source of token rewards",
        json_schema_extra=shown(blank="by scorer, else by reward model"),
    )
    """What token rewards are read from."""
    scorer: ModelName | None = Field(
        None, title="Scorer", json_schema_extra=shown(blank="one is trained first")
    )
    """A policy that was trained apart; its implicit reward against the base model makes the masks."""
    scorer_dataset_id: Id | None = Field(
        None,
        title="Scorer data",
        json_schema_extra=shown(blank="a part of the data set"),
    )
    """What the scorer learns wrong tokens from; best are data that trainings do not see: they leave the part
    alone that it takes of the data set."""
    scorer_share: float = Field(0.5, gt=0, lt=1, title="Scorer share")
    """Part of the data set that the scorer learns from, where it has no data of its own."""
    reward_model: ModelName | None = Field(None, title="Reward model", json_schema_extra=shown(blank="none"))
    """For sampled responses, or instead of a scorer."""
    union: bool = Field(True, title="Also sample + scorer data")
    """A fair rival of masking: sample-wise training that also gets the scorer's data, in as many steps."""
    data: Data = Field(Data(), title="Rows")
    """Which rows are trained on, and how much of each."""
    optimisation: Optimisation = Field(Optimisation(steps=COMPARED_STEPS), title="Optimisation")
    """Of every training that is compared."""
    scorer_method: Scorer = Field(Scorer(), title="Scorer hyperparameters")
    """How the scorer learns."""
    scorer_optimisation: Optimisation = Field(
        Optimisation(steps=COMPARED_STEPS), title="Optimisation of the scorer"
    )
    """How the scorer's weights move, and for how long."""
    lora: Lora | None = Field(None, title="Train LoRA adapters", json_schema_extra=shown(blank="all weights"))
    """Adapters instead of all weights: far less memory."""
    keeping: Keeping = Field(Keeping(), title="Checkpoints and evaluation")
    """When checkpoints are written and models are evaluated."""
    machine: Machine = Field(Machine(), title="Machine")
    """Where trainings run."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1, max_length=10, title="Seeds")
    """Each training is done once with each; several give a mean and an interval."""
    suite_ids: list[Id] = Field([], max_length=20, title="Task suites")
    """On which the base and every trained model are evaluated."""
    held_out_dataset_id: Id | None = Field(
        None, title="Held-out pairs", json_schema_extra=shown(blank="none")
    )
    """For accuracies and loss of the base and every trained model; nothing is trained on them."""
    evaluation: EvaluationNumbers = Field(EvaluationNumbers(), title="Evaluation")
    """How models are evaluated."""

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_by_name(cls, methods: Any) -> Any:
        if not isinstance(methods, list):
            return methods
        return [{"name": method} if isinstance(method, str) else method for method in methods]

    @field_validator("densities", "seeds", "suite_ids")
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError("Name each one once.")
        return values

    @field_validator("methods")
    @classmethod
    def _each_method_once(cls, methods: list[RecipeMethod]) -> list[RecipeMethod]:
        if len({method.name for method in methods}) < len(methods):
            raise ValueError("Name each method once.")
        return methods

    @model_validator(mode="after")
    def _fits_together(self) -> RecipeBody:
        if self.optimisation.steps is None:
            raise ValueError("A recipe compares at equal steps: give the steps of a training.")
        if "reward_model" in self.source_info.needs and self.reward_model is None:
            raise ValueError(f"The source `{self.source}` needs a reward model.")
        if self.scorer is not None and not self.reads_scorer:
            raise ValueError(f"The source `{self.source}` reads no scorer; name none, or another source.")
        if self.held_out_dataset_id in (self.dataset_id, self.scorer_dataset_id) and (
            self.held_out_dataset_id is not None
        ):
            raise ValueError("Held-out pairs are pairs that nothing is trained on: name another data set.")
        live = [method.name for method in self.methods if method.samples]
        if live and not self.source_info.rewards_rollouts:
            raise ValueError(
                f"`{live[0]}` samples responses, which `{self.masks_from}` cannot reward; choose another "
                "source or method."
            )
        return self

    @property
    def masks_from(self) -> SourceName:
        """Where token rewards come from."""
        if self.source is not None:
            return self.source
        is_judged = self.reward_model is not None and self.scorer is None
        return default_sources(["reward_model"] if is_judged else ["policy", "reference"])[0]

    @property
    def source_info(self) -> Source:
        """All that is known of the source."""
        return SOURCES[self.masks_from]

    @property
    def reads_scorer(self) -> bool:
        """Whether token rewards are read from a policy, which a scorer is."""
        return "policy" in self.source_info.needs

    @property
    def is_rewarded(self) -> bool:
        """Whether anything asks for token rewards: a mask, or responses that are sampled."""
        return any(method.samples or densities_of(self, method) != ["sample"] for method in self.methods)

    @property
    def trains_scorer(self) -> bool:
        """Whether the scorer is made on the way."""
        return self.is_rewarded and self.reads_scorer and self.scorer is None

    @property
    def splits(self) -> bool:
        """Whether the scorer learns from a part of the data set that trainings leave alone."""
        return self.trains_scorer and self.scorer_dataset_id is None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One run of a plan."""

    name: str
    kind: StepKind
    needs: tuple[str, ...]
    """Steps that must have succeeded before it can be submitted."""
    request: dict[str, Any]
    """The body of its submission, with {"made_by": step} where an earlier step's id goes."""
    method: str | None
    density: str | None
    """Of a training or its evaluation: the row of the table it belongs to; `union` and `base` included."""

    def to_json(self) -> dict[str, Any]:
        """As a recipe keeps it; `run` will be its run's id."""
        return {
            "name": self.name,
            "kind": self.kind,
            "needs": list(self.needs),
            "request": self.request,
            "method": self.method,
            "density": self.density,
            "run": None,
        }


def make_plan(body: RecipeBody, name: str, *, union: bool) -> list[PlannedStep]:
    """The steps in an order in which each comes after what it needs. `union`: whether these rows can be."""
    steps = list(_preparations(body, name))
    trainings = [one for method in body.methods for one in _trainings(body, name, method, union=union)]
    steps += trainings
    if body.suite_ids or body.held_out_dataset_id is not None:
        steps.append(_evaluation(body, name, None))
        steps += [_evaluation(body, name, training) for training in trainings]
    return steps


def filled(request: Any, made: Mapping[str, int]) -> Any:
    """The request with ids in place of {"made_by": step}."""
    if isinstance(request, dict):
        if request.keys() == {"made_by"}:
            return made[request["made_by"]]
        return {name: filled(value, made) for name, value in request.items()}
    return [filled(value, made) for value in request] if isinstance(request, list) else request


def densities_of(body: RecipeBody, method: RecipeMethod) -> list[Density]:
    """The densities at which a method is trained: of those that are asked for the ones that it knows, and
    `sample` where it knows none of them."""
    return [one for one in body.densities if one in method.declared.densities] or ["sample"]


def _preparations(body: RecipeBody, name: str) -> Iterator[PlannedStep]:
    if body.trains_scorer:
        request = {
            "method": body.scorer_method.model_dump(mode="json"),
            "dataset_id": body.scorer_dataset_id or body.dataset_id,
            "model": body.model,
            "data": _data(body, _scorer_part(body) if body.splits else None),
            "optimisation": body.scorer_optimisation.model_dump(mode="json"),
            **_common(body),
            "name": _named(name, "scorer"),
        }
        yield PlannedStep("scorer", "training", (), request, None, None)
    masked = any(
        density != "sample"
        for method in body.methods
        if not method.samples
        for density in densities_of(body, method)
    )
    if masked:
        yield PlannedStep(
            "scores", "scoring", ("scorer",) if body.trains_scorer else (), _scoring(body, name), None, None
        )


def _scoring(body: RecipeBody, name: str) -> dict[str, Any]:
    needs = body.source_info.needs
    return {
        "dataset_id": body.dataset_id,
        "policy": _scorer(body) if body.reads_scorer else body.model,
        "reference": body.model if "reference" in needs else None,
        "reward_model": body.reward_model if "reward_model" in needs else None,
        "sources": [body.masks_from],
        "name": _named(name, "scores"),
    }


def _trainings(body: RecipeBody, name: str, method: RecipeMethod, *, union: bool) -> Iterator[PlannedStep]:
    for density in densities_of(body, method):
        for seed in body.seeds:
            yield _training(body, name, method, density, seed)
    if union and not method.samples:
        for seed in body.seeds:
            yield _union(body, name, method, seed)


def _training(body: RecipeBody, name: str, method: RecipeMethod, density: Density, seed: int) -> PlannedStep:
    step = _step_name(body, method, density, seed)
    request = _sample_wise(body, name, method, step, seed, _rest(body) if body.splits else None)
    needs: tuple[str, ...] = ()
    if method.samples:
        request |= _frozen(body)
        needs = ("scorer",) if body.trains_scorer else ()
    elif density != "sample":
        request |= {"scoring_run_id": {"made_by": "scores"}}
        needs = ("scores",)
    if method.samples or density != "sample":
        request["supervision"] = {"density": density, "source": body.masks_from}
    return PlannedStep(step, "training", needs, request, method.name, density)


def _union(body: RecipeBody, name: str, method: RecipeMethod, seed: int) -> PlannedStep:
    """Sample-wise on the scorer's data as well: the rest of the split, or the other data set."""
    step = _step_name(body, method, "union", seed)
    request = _sample_wise(body, name, method, step, seed, None)
    if not body.splits:
        request["extra_dataset_ids"] = [body.scorer_dataset_id]
    return PlannedStep(step, "training", (), request, method.name, "union")


def _sample_wise(
    body: RecipeBody, name: str, method: RecipeMethod, step: str, seed: int, part: DataPart | None
) -> dict[str, Any]:
    return {
        "method": method.model_dump(mode="json"),
        "supervision": {"density": "sample"},
        "dataset_id": body.dataset_id,
        "model": body.model,
        "data": _data(body, part),
        "optimisation": body.optimisation.model_dump(mode="json") | {"seed": seed},
        **_common(body),
        "name": _named(name, step),
    }


def _step_name(body: RecipeBody, method: RecipeMethod, density: str, seed: int) -> str:
    return f"{method.name} {density}" + (f", seed {seed}" if len(body.seeds) > 1 else "")


def _frozen(body: RecipeBody) -> dict[str, Any]:
    """The models that reward sampled responses."""
    frozen: dict[str, Any] = {"reward_model": body.reward_model}
    if body.reads_scorer:
        frozen |= {"scorer": _scorer(body), "scorer_reference": body.model}
    return frozen


def _evaluation(body: RecipeBody, name: str, training: PlannedStep | None) -> PlannedStep:
    """Of a trained model against the base, or of the base itself."""
    step = "evaluate base" if training is None else f"evaluate {training.name}"
    request = {
        **body.evaluation.model_dump(mode="json"),
        "model": body.model if training is None else {"made_by": training.name},
        "reference": None if training is None else body.model,
        "dataset_id": body.held_out_dataset_id,
        "suite_ids": body.suite_ids,
        "name": _named(name, step),
    }
    if training is None:
        return PlannedStep(step, "evaluation", (), request, None, "base")
    return PlannedStep(step, "evaluation", (training.name,), request, training.method, training.density)


def _common(body: RecipeBody) -> dict[str, Any]:
    return {
        "lora": None if body.lora is None else body.lora.model_dump(mode="json"),
        "keeping": body.keeping.model_dump(mode="json"),
        "machine": body.machine.model_dump(mode="json"),
    }


def _data(body: RecipeBody, part: DataPart | None) -> dict[str, Any]:
    given = body.data.model_dump(mode="json")
    return given if part is None else given | {"part": part.model_dump(mode="json")}


def _border(body: RecipeBody) -> float:
    whole = body.data.part
    return whole.start + (whole.end - whole.start) * body.scorer_share


def _scorer_part(body: RecipeBody) -> DataPart:
    return DataPart(start=body.data.part.start, end=_border(body))


def _rest(body: RecipeBody) -> DataPart:
    return DataPart(start=_border(body), end=body.data.part.end)


def _scorer(body: RecipeBody) -> Any:
    return {"made_by": "scorer"} if body.trains_scorer else body.scorer


def _named(name: str, step: str) -> str:
    """`name: step`, short enough for a run."""
    step = step_label(step)
    return f"{name[: MAX_NAME_CHARACTERS - len(step) - 2]}: {step}"


def count_by_kind(steps: Iterable[PlannedStep]) -> dict[str, int]:
    """How many runs of each kind a plan makes."""
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.kind] = counts.get(step.kind, 0) + 1
    return counts
