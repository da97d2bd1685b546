"""What a request names and nothing reads is an error, with the name of its field."""

import pytest

from engine.errors import RequestError
from engine.training.checks import check_training
from engine.training.methods import METHODS
from engine.training.request import TrainingRequest

BASE = {"model": {"path": "base"}}
SCORER, JUDGE = {"path": "scorer"}, {"path": "judge"}
SAMPLE, SEGMENT = {"density": "sample"}, {"density": "segment"}

WITHOUT_EFFECT = [
    ("supervision.source", {"method": "dpo", "supervision": {"density": "sample", "source": "spans"}}, False),
    ("supervision.source", {"method": "sft", "supervision": {"density": "sample", "source": "spans"}}, False),
    ("supervision.rule", {"method": "dpo", "supervision": {"density": "sample", "rule": {}}}, False),
    ("scorer", {"method": "dpo", "supervision": SAMPLE, "scorer": SCORER}, False),
    ("scorer", {"method": "reward_model", "supervision": SAMPLE, "scorer": SCORER}, False),
    ("reward_model", {"method": "rjs", "supervision": SAMPLE, "reward_model": JUDGE}, False),
    ("scoring_run_id", {"method": "dpo", "supervision": SAMPLE}, True),
    (
        "scorer",
        {"method": "dpo", "supervision": {"density": "token", "source": "spans"}, "scorer": SCORER},
        False,
    ),
    (
        "reward_model",
        {
            "method": "dpo",
            "supervision": {"density": "segment", "source": "implicit"},
            "scorer": SCORER,
            "reward_model": JUDGE,
        },
        False,
    ),
    ("scorer", {"method": "dpo", "supervision": SEGMENT, "scorer": SCORER}, True),
    ("reward_model", {"method": "dpo", "supervision": SEGMENT, "reward_model": JUDGE}, True),
    ("scorer_reference", {"method": "dpo", "supervision": SAMPLE, "scorer_reference": SCORER}, False),
    ("reference", {"method": "sft", "supervision": SAMPLE, "reference": {"path": "other"}}, False),
    ("scoring_run_id", {"method": "grpo", "supervision": SEGMENT, "reward_model": JUDGE}, True),
]


def request_of(fields):
    pooling = (
        {"reading": "segment"}
        if fields["method"] == "reward_model" and "source" in fields["supervision"]
        else {}
    )
    return TrainingRequest.model_validate({**BASE, **fields, "method": {"name": fields["method"], **pooling}})


@pytest.mark.parametrize(("field", "fields", "has_rewards"), WITHOUT_EFFECT)
def test_a_part_without_effect_is_refused_by_its_name(field, fields, has_rewards):
    with pytest.raises(RequestError) as refusal:
        check_training(request_of(fields), has_rewards=has_rewards)

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("fields", "has_rewards"),
    [
        ({"method": "dpo", "supervision": SAMPLE}, False),
        ({"method": "reward_model", "supervision": {"density": "segment", "source": "spans"}}, False),
        ({"method": "dpo", "supervision": SEGMENT, "scorer": SCORER}, False),
        ({"method": "dpo", "supervision": SEGMENT, "reference": {"path": "other"}}, True),
        ({"method": "dpo", "supervision": {"density": "token", "source": "spans"}}, False),
        ({"method": "grpo", "supervision": SEGMENT, "scorer": SCORER, "reference": SCORER}, False),
    ],
)
def test_what_counts_is_taken(fields, has_rewards):
    check_training(request_of(fields), has_rewards=has_rewards)


ALWAYS = {
    "method",
    "model",
    "data",
    "optimisation",
    "lora",
    "keeping",
    "machine",
    "supervision",
}
SOMETIMES = {field.partition(".")[0] for field, _, _ in WITHOUT_EFFECT}


def test_every_field_of_a_training_counts_always_or_is_refused_where_it_does_not():
    assert set(TrainingRequest.model_fields) <= ALWAYS | SOMETIMES


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if not one.masks])
def test_a_method_that_takes_no_mask_refuses_another_granularity_or_rewards_by_it(name):
    fields = {"method": name, "supervision": SEGMENT, "scorer": SCORER}

    if METHODS[name].fields().samples:
        check_training(request_of(fields), has_rewards=False)
    else:
        with pytest.raises(RequestError):
            check_training(request_of(fields), has_rewards=False)
