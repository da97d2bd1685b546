"""What must be right before a training is queued, each with a sentence and the field that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, Pair, Run, SourceStatistics
from app.errors import Invalid, Problem
from app.services.datasets.datasets import columns_of
from app.services.models.models import check_same_tokens, recorded_reference, reference_of
from app.services.scorings.sources import find_scoring_run, source_names
from app.services.trainings.requests import TrainingBody
from engine.model_files import same_tokens
from engine.sources import SOURCES, SourceName
from engine.sources.registry import COLUMNS, need_in_words
from engine.training.method import LearnsFrom, MethodFields
from engine.training.request import Supervision, TrainingRequest
from engine.training.resolve import split
from engine.types import ModelReference

_NEED_WORDS = {
    "prompt": "a prompt",
    "chosen": "a chosen response",
    "pair": "both a chosen and a rejected response",
}


class RowCounts(NamedTuple):
    """How many rows of all data sets a method can learn from."""

    usable: int
    unusable: int
    """Rows that lack a side that the method needs."""


def is_masked(supervision: Supervision) -> bool:
    """Whether any token may be left out."""
    if supervision.rule is not None:
        return not supervision.rule.keeps_everything
    return supervision.density != "sample"


def usable_rows(session: Session, method: MethodFields, datasets: Sequence[Dataset]) -> RowCounts:
    """How many rows the method can learn from. Raises Invalid for a data set without any, or without what
    the masks are made of."""
    need = method.learns_from
    counts = [_count(session, [dataset.id], need) for dataset in datasets]
    for place, (dataset, found) in enumerate(zip(datasets, counts, strict=True)):
        field = ("body", "dataset_id") if place == 0 else ("body", "extra_dataset_ids", place - 1)
        if not found:
            raise Invalid(
                f"No row of the data set `{dataset.name}` has {_NEED_WORDS[need]}, which "
                f"`{method.name}` learns from; choose other data or another method.",
                code="nothing_to_learn_from",
                errors=[Problem(field, f"has no row with {_NEED_WORDS[need]}")],
            )
    all_rows = sum(dataset.pair_count for dataset in datasets)
    if need == "prompt":  # The same prompt in several rows is sampled once.
        return RowCounts(_count(session, [dataset.id for dataset in datasets], need), 0)
    return RowCounts(sum(counts), all_rows - sum(counts))


def check_brought_rewards(request: TrainingRequest, datasets: Sequence[Dataset]) -> None:
    """Raises Invalid where masks are to be made of what the data bring, and they bring no such thing."""
    source = request.supervision.source
    for need in SOURCES[source].columns if source is not None else ():
        for dataset in datasets:
            if need not in columns_of(dataset):
                raise Invalid(
                    f"The data set `{dataset.name}` has no {COLUMNS[need]}; choose another source, or data "
                    "that have some.",
                    errors=[Problem(("body", "supervision", "source"), f"needs {need_in_words(need)}")],
                )


def check_part(resolved: TrainingRequest, usable: int) -> None:
    """Raises Invalid where the part of the data that is asked for leaves no row to train on."""
    if split(resolved, usable).trained < 1:
        raise Invalid(
            f"{usable} usable rows leave none to train on; take a larger part of the data, or hold out less.",
            code="nothing_to_learn_from",
            errors=[Problem(("body", "data", "part"), "leaves no row to train on")],
        )


def check_entropies(run: Run | None, resolved: TrainingRequest) -> None:
    """Raises Invalid where the rule cuts by entropies, and the scoring run has none."""
    rule = resolved.supervision.rule
    if (
        run is not None
        and rule is not None
        and rule.segmenter.kind.reads_entropies
        and not run.request["policy"]
    ):
        raise Invalid(
            f"Run {run.id} scored without a policy, and has no entropies to cut by; choose another rule, or "
            "a scoring run with a policy.",
            errors=[Problem(("body", "supervision", "rule"), "needs entropies, which the run does not have")],
        )


def check_models(models: Mapping[str, Model | None], supervision: Supervision) -> None:
    """Raises Invalid where models read other tokens, or where the trained model would reward itself.

    A reward model may have another tokenizer: its rewards are carried over by characters.
    """
    check_same_tokens({role: models[role] for role in ("model", "reference", "scorer", "scorer_reference")})
    model, scorer = models["model"], models["scorer"]
    assert model is not None, "a training names its model"
    if scorer is not None and scorer.fingerprint == model.fingerprint and is_masked(supervision):
        raise _own_reward("scorer", f"The scorer `{scorer.name}` is the very model that is trained")


def chosen_rewards(
    session: Session, body: TrainingBody, model: Model
) -> tuple[Run, SourceName] | tuple[None, None]:
    """The scoring run whose rewards make the masks, and which of its sources; None without one.

    Raises Invalid: no such run, one of other data, one that is not scored to its end, a source that it lacks,
    another tokenizer, the reward of the trained model itself, or a method that has no use for stored rewards.
    """
    if body.scoring_run_id is None:
        return None, None
    run = find_scoring_run(session, body.scoring_run_id)
    if run is None:
        raise _bad_run(
            f"There is no scoring run {body.scoring_run_id}; choose one of the data set's scoring runs.",
            "is no scoring run",
        )
    if run.dataset_id != body.dataset_id:
        raise _bad_run(
            f"Run {run.id} scored another data set; choose a scoring run of the data that is trained on.",
            "scored another data set",
        )
    if body.method.samples:
        raise _bad_run(
            f"`{body.method.name}` learns from responses that the policy gives now, of which a scoring run "
            "knows nothing; name a scorer or a reward model instead of a scoring run.",
            "has no rewards of responses that are yet to be sampled",
        )
    if body.extra_dataset_ids and is_masked(body.supervision):
        raise _bad_run(
            "The rewards of a scoring run mask its own data set and no other; leave the extra data sets out, "
            "or name a scorer, which masks all of them.",
            "has no rewards of the extra data sets",
        )
    source = _source(run, body)
    if not session.get_one(SourceStatistics, (run.id, source)).final:
        raise _bad_run(
            f"Run {run.id} is not scored to its end, and its masks depend on all of it; wait until it has "
            "succeeded.",
            "has not succeeded",
        )
    _check_tokens(run, model)
    if "policy" in SOURCES[source].needs and is_masked(body.supervision):
        policy = run.request["policy"]
        if policy is not None and policy["fingerprint"] == model.fingerprint:
            raise _own_reward("scoring_run_id", f"Run {run.id} was scored by the very model that is trained")
    return run, source


def _source(run: Run, body: TrainingBody) -> SourceName:
    names = source_names(run)
    wanted = body.supervision.source
    if wanted is not None and wanted not in names:
        raise Invalid(
            f"Run {run.id} was not scored by `{wanted}`; choose one of {', '.join(names)}.",
            errors=[Problem(("body", "supervision", "source"), f"must be one of {', '.join(names)}")],
        )
    return wanted or names[0]


def _check_tokens(run: Run, model: Model) -> None:
    """The stored rewards are one a token of the model that cut the responses: it must cut as ours does."""
    cut_by = run.request["policy"] or run.request["reference"] or run.request["reward_model"]
    if cut_by is None:
        raise Invalid(
            f"Run {run.id} was scored without a model, in the tokens that came with the data, and nobody "
            f"knows whether `{model.name}` cuts the responses alike; leave the run out and take the rewards "
            "of the data (`supervision.source` `external`), or name a scorer or a reward model.",
            code="other_tokenizer",
            errors=[Problem(("body", "scoring_run_id"), "was scored without a model")],
        )
    reference = ModelReference.model_validate(recorded_reference(cut_by))
    if same_tokens(reference_of(model), reference) is False:
        raise Invalid(
            f"Run {run.id} cut the responses into the tokens of `{cut_by['name']}`, and `{model.name}` has "
            "another tokenizer, so that the masks would not fit; score the data with a model that has the "
            "tokenizer of the trained one, or name a scorer or a reward model.",
            code="other_tokenizer",
            errors=[Problem(("body", "scoring_run_id"), "was scored with another tokenizer")],
        )


def _count(session: Session, dataset_ids: Sequence[int], need: LearnsFrom) -> int:
    """Rows that have what is needed; distinct prompts where only these are."""
    counted = func.count()
    if need == "prompt":
        counted = func.count(func.coalesce(cast(Pair.messages, Text), Pair.prompt).distinct())
    query = select(counted).select_from(Pair).where(Pair.dataset_id.in_(dataset_ids))
    if need != "prompt":
        query = query.where(Pair.chosen.is_not(None))
    if need == "pair":
        query = query.where(Pair.rejected.is_not(None))
    return session.scalar(query) or 0


def _bad_run(sentence: str, fault: str) -> Invalid:
    return Invalid(sentence, errors=[Problem(("body", "scoring_run_id"), fault)])


def _own_reward(field: str, how: str) -> Invalid:
    return Invalid(
        f"{how}: its implicit reward is zero where training begins and feeds on itself from there, so that "
        "the margin rises while nothing is learned. Mask with a scorer that was trained apart and stays "
        "frozen.",
        code="own_reward",
        errors=[Problem(("body", field), "would mask the model by its own implicit reward")],
    )
