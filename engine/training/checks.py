"""What of a training can be refused, or warned of, before any file is opened. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.errors import RequestError
from engine.sources import SOURCES, Source, SourceName, default_sources
from engine.sources.registry import Need
from engine.training.request import TrainingRequest
from engine.types import ModelReference

STANDS_FOR: Mapping[Need, str] = {
    "policy": "scorer",
    "reference": "scorer",
    "reward_model": "reward_model",
}
"""The field of a training that brings what a source needs; a scorer comes with a reference of its own."""
OWN_REWARD = (
    "The mask may not come from the implicit reward of the very policy that is trained: it is zero at step 0 "
    "and feeds on itself then, so that the margin rises without learning. Name a frozen scorer, trained on "
    "other data if there are any, or the scoring run of one."
)


def check_training(request: TrainingRequest, *, has_rewards: bool) -> list[str]:
    """Sentences that a person should read before they start this training.

    has_rewards: whether stored token rewards of a scoring run come along. Raises RequestError where the
    request contradicts itself or lacks what its method needs.
    """
    _check_density(request)
    _check_rule(request)
    _check_rewards(request, has_rewards)
    request.method.declared.check(request)
    _check_processes(request)
    _check_effects(request, has_rewards)
    return _warnings(request, has_rewards)


def rewarded_by(request: TrainingRequest) -> SourceName | None:
    """The source of token rewards that the request comes to, None where it has none and needs none."""
    if request.supervision.source is not None:
        return request.supervision.source
    given = {need for need, field in STANDS_FOR.items() if getattr(request, field) is not None}
    return next(iter(default_sources(given)), None) if given else None


def same_model(one: ModelReference | None, other: ModelReference | None) -> bool:
    """Whether both name the same files."""
    return one is not None and other is not None and _place(one) == _place(other)


def _place(model: ModelReference) -> tuple[str, str | None, str | None]:
    return model.path.rstrip("/"), model.revision, model.subfolder


def _check_density(request: TrainingRequest) -> None:
    method = request.method.declared
    if request.supervision.density not in method.densities:
        raise RequestError(method.why_densities, field="supervision.density")


def _check_rule(request: TrainingRequest) -> None:
    supervision = request.supervision
    if supervision.rule is None:
        return
    if supervision.density == "sample" and not supervision.rule.keeps_everything:
        raise RequestError(
            "Sample-wise training counts every token, and the rule drops some; leave the rule out, or choose "
            "another granularity.",
            field="supervision.rule",
        )


def _check_rewards(request: TrainingRequest, has_rewards: bool) -> None:
    name = rewarded_by(request)
    source = None if name is None else SOURCES[name]
    given = request.scorer is not None, request.reward_model is not None
    is_rewarded = any(given) or (source is not None and not source.models)
    if source is not None and "policy" in source.needs and same_model(request.scorer, request.model):
        raise RequestError(OWN_REWARD, field="scorer")
    if request.method.samples:
        if source is not None and not source.rewards_rollouts:
            able = _any_of(source.name for source in SOURCES.values() if source.rewards_rollouts)
            raise RequestError(
                f"`{source.name}` rewards are those of the data's responses, and `{request.method.name}` "
                f"samples its own; choose {able}.",
                field="supervision.source",
            )
        if not is_rewarded:
            raise RequestError(
                f"{request.method.declared.title} rewards what the policy says as it learns: name a reward "
                "model, or a frozen scorer.",
                field="reward_model",
            )
        if has_rewards:
            raise RequestError(
                f"A scoring run holds rewards of the data's responses, and {request.method.declared.title} "
                "samples its own; name the scorer or the reward model that gave them.",
                field="scoring_run_id",
            )
    masks = request.supervision.density != "sample" and request.method.declared.masks
    if masks and not (has_rewards or is_rewarded):
        brought = _any_of(source.name for source in SOURCES.values() if source.columns)
        raise RequestError(
            f"`{request.supervision.density}`-wise training needs token rewards for its mask: name a scoring "
            f"run, a frozen scorer, a reward model, or the source {brought} where the data have some.",
            field="scorer",
        )
    if source is not None and not has_rewards:
        _check_models_of(source, request)


def _any_of(names: Iterable[str]) -> str:
    """Names for a sentence: `a`, `b` or `c`."""
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} or {last}" if others else last


def _check_models_of(source: Source, request: TrainingRequest) -> None:
    for need in source.models:
        if getattr(request, STANDS_FOR[need]) is None:
            frozen = "frozen scorer" if STANDS_FOR[need] == "scorer" else "reward model"
            raise RequestError(
                f"The source `{source.name}` needs a {frozen}; name one, or another source.",
                field=STANDS_FOR[need],
            )


def _check_processes(request: TrainingRequest) -> None:
    processes, batch = request.machine.processes, request.optimisation.batch_size
    if batch < processes:
        raise RequestError(
            f"A batch of {batch} cannot be shared by {processes} processes; take a larger batch or fewer "
            "processes.",
            field="optimisation.batch_size",
        )


def _check_effects(request: TrainingRequest, has_rewards: bool) -> None:
    """Refuses what was named and nothing reads: whoever named it believes that it counts."""
    method, supervision = request.method.declared, request.supervision
    masks = supervision.density != "sample"
    name = rewarded_by(request)
    needs = SOURCES[name].needs if name is not None else frozenset()
    title = f"{supervision.density}-wise {method.title}" if method.masks else method.title
    if not masks and not request.method.samples:
        for field, given in {
            "supervision.source": supervision.source is not None,
            "scorer": request.scorer is not None,
            "reward_model": request.reward_model is not None,
            "scoring_run_id": has_rewards,
        }.items():
            if given:
                another = (
                    "; leave it out, or choose another granularity" if method.masks else "; leave it out"
                )
                raise RequestError(f"Nothing reads token rewards in {title}{another}.", field=field)
    elif supervision.source is not None and not has_rewards:
        for field, need in (("scorer", "policy"), ("reward_model", "reward_model")):
            if getattr(request, field) is not None and need not in needs:
                raise RequestError(
                    f"The source `{supervision.source}` does not read it; leave it out, or name another.",
                    field=field,
                )
    elif masks and has_rewards:
        for field in ("scorer", "reward_model"):
            if getattr(request, field) is not None:
                raise RequestError(
                    "The rewards of the scoring run make the masks, and nothing reads it; leave it or the "
                    "scoring run out.",
                    field=field,
                )
    if request.scorer_reference is not None and request.scorer is None:
        raise RequestError(
            "Nothing is compared with it without a scorer; name the scorer, or leave it out.",
            field="scorer_reference",
        )
    if request.reference is not None and not (method.compares or request.method.samples):
        raise RequestError(f"{method.title} compares with no reference; leave it out.", field="reference")


def _warnings(request: TrainingRequest, has_rewards: bool) -> list[str]:
    method, source = request.method.declared, rewarded_by(request)
    found = method.warnings(request)
    masks = method.masks and request.supervision.density != "sample"
    if masks and source is not None and not has_rewards and SOURCES[source].cannot_show:
        found.append(SOURCES[source].cannot_show)
    return found
