"""What of a training can be refused, or warned of, before any file is opened. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.errors import RequestError
from engine.sources import SOURCES, Source, SourceName, default_sources
from engine.sources.registry import Need
from engine.training.request import ON_POLICY, Grpo, Ppo, RewardModel, Rjs, Rloo, TrainingRequest
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
    _check_rewards(request, has_rewards)
    _check_sampling(request)
    _check_processes(request)
    return list(_warnings(request, has_rewards))


def rewarded_by(request: TrainingRequest) -> SourceName | None:
    """The source of token rewards that the request settles on, None where it has none and needs none."""
    if request.supervision.source is not None:
        return request.supervision.source
    given = {need for need, field in STANDS_FOR.items() if getattr(request, field) is not None}
    return next(iter(default_sources(given)), None) if given else None


def same_model(one: ModelReference | None, other: ModelReference | None) -> bool:
    """Whether both name the same files."""
    return one is not None and other is not None and _place(one) == _place(other)


def needs_pairs(request: TrainingRequest) -> bool:
    """Whether rows without both sides are of no use to the method."""
    return request.method.name in ("dpo", "scorer", "reward_model")


def needs_prompts_alone(request: TrainingRequest) -> bool:
    """Whether the method makes its responses itself."""
    method = request.method
    return method.name in ON_POLICY or (isinstance(method, Rjs) and method.sampling is not None)


def _place(model: ModelReference) -> tuple[str, str | None, str | None]:
    return model.path.rstrip("/"), model.revision, model.subfolder


def _check_density(request: TrainingRequest) -> None:
    name, density = request.method.name, request.supervision.density
    if density == "sample":
        return
    if name == "sft":
        raise RequestError("`sft` counts every token of the chosen responses; choose `rjs` to mask some.")
    if name == "scorer":
        raise RequestError("A scorer learns from whole responses; set `supervision.density` to `sample`.")
    if isinstance(request.method, RewardModel) and request.method.reading != "segment":
        raise RequestError(
            f"A reward model read at `{request.method.reading}` knows no segments; set its `reading` to "
            "`segment`, or `supervision.density` to `sample`."
        )


def _check_rewards(request: TrainingRequest, has_rewards: bool) -> None:
    name = rewarded_by(request)
    source = None if name is None else SOURCES[name]
    given = request.scorer is not None, request.reward_model is not None
    is_rewarded = any(given) or (source is not None and not source.models)
    if source is not None and "policy" in source.needs and same_model(request.scorer, request.model):
        raise RequestError(OWN_REWARD)
    if needs_prompts_alone(request):
        if source is not None and not source.rewards_rollouts:
            able = _any_of(source.name for source in SOURCES.values() if source.rewards_rollouts)
            raise RequestError(
                f"`{source.name}` rewards are those of the data's responses, and `{request.method.name}` "
                f"samples its own; choose {able}."
            )
        if not is_rewarded:
            raise RequestError(
                f"`{request.method.name}` rewards what the policy says as it learns: name a `reward_model`, "
                "or a frozen `scorer`."
            )
        if has_rewards:
            raise RequestError(
                f"A scoring run holds rewards of the data's responses, and `{request.method.name}` samples "
                "its own; name the `scorer` or the `reward_model` that gave them."
            )
    masks = request.supervision.density != "sample" and request.method.name in ("rjs", "dpo")
    if masks and not (has_rewards or is_rewarded):
        brought = _any_of(source.name for source in SOURCES.values() if source.columns)
        raise RequestError(
            f"`{request.supervision.density}`-wise training needs token rewards for its mask: name a scoring "
            f"run, a frozen `scorer`, a `reward_model`, or the source {brought} where the data have some."
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
            frozen = "frozen `scorer`" if STANDS_FOR[need] == "scorer" else f"`{STANDS_FOR[need]}`"
            raise RequestError(f"The source `{source.name}` needs a {frozen}; name one, or another source.")


def _check_sampling(request: TrainingRequest) -> None:
    method = request.method
    if isinstance(method, Grpo | Rloo) and method.sampling.responses < 2:
        raise RequestError(
            f"`{method.name}` compares a response with others to the same prompt; sample at least two."
        )
    if isinstance(method, Ppo):
        rollouts = request.optimisation.batch_size * method.sampling.responses
        if rollouts < method.minibatches:
            raise RequestError(
                f"{rollouts} rollouts cannot be cut into {method.minibatches} minibatches; take a larger "
                "`batch_size` or fewer `minibatches`."
            )


def _check_processes(request: TrainingRequest) -> None:
    processes, batch = request.machine.processes, request.optimisation.batch_size
    if batch < processes:
        raise RequestError(
            f"A batch of {batch} cannot be shared by {processes} processes; take a larger `batch_size` or "
            "fewer `processes`."
        )


def _warnings(request: TrainingRequest, has_rewards: bool) -> list[str]:
    found = []
    method, density = request.method, request.supervision.density
    if method.name == "dpo" and density != "sample":
        off = [
            name
            for name, is_off in (
                ("rejected_clip", method.rejected_clip is None),
                ("sft_weight", method.sft_weight == 0),
                ("masked_weight", method.masked_weight == 0),
            )
            if is_off
        ]
        if off:
            found.append(
                f"Masked DPO without {' and '.join(f'`{name}`' for name in off)} can collapse: once wrong "
                "tokens of chosen responses are masked, nothing holds back those of rejected ones. Keep the "
                "defaults unless you measure success."
            )
        if method.length_normalised:
            found.append("Length normalisation does not keep masked DPO from collapsing; the clip does.")
    source = rewarded_by(request)
    if density != "sample" and source is not None and method.name in ("rjs", "dpo") and not has_rewards:
        found += [SOURCES[source].cannot_show] if SOURCES[source].cannot_show else []
    return found
