"""Long forms: what was typed as a body, a body as what must be typed, faults beside their fields."""

from __future__ import annotations

import pytest

from app.errors import Invalid, Problem
from app.pages.parts import training_fields as fields
from app.pages.parts.form_fields import (
    FieldGroup,
    FormField,
    body_from,
    faults_of,
    headline_of,
    shown,
    typed_from,
)
from app.services.trainings.requests import TrainingBody
from engine.training.methods import METHODS
from engine.training.request import Optimisation, TrainingNumbers

GROUPS = [
    fields.what_group((), ()),
    fields.length_group(),
    fields.method_group(),
    fields.lora_group(),
    fields.optimisation_group(),
    fields.data_group(),
    fields.keeping_group(),
    fields.rule_group(),
]


def paths(values, under=""):
    """Every field of a body of plain values, by its path; lists and rules count as one."""
    for name, value in values.items():
        path = f"{under}{name}"
        if isinstance(value, dict) and name != "rule":
            yield from paths(value, f"{path}.")
        else:
            yield path


@pytest.mark.parametrize("method", list(METHODS))
def test_the_form_has_every_number_of_a_training(method):
    body = TrainingNumbers.model_validate({"method": {"name": method}, "lora": {}})
    names = {field.name for group in GROUPS for field in group.fields if field.belongs_to(method)}
    for path in paths(body.model_dump(mode="json")):
        if path.startswith("supervision.") and method not in fields.REWARDED.split():
            continue  # These learn from whole responses, whoever rewards them.
        name = path.replace("method.", f"{method}.", 1) if path.startswith("method.") else path
        assert name in names or path == "method.name" or f"{name}?" in names, path


@pytest.mark.parametrize("method", list(METHODS))
def test_a_body_is_typed_and_read_back(method):
    body = TrainingBody.model_validate(
        {
            "method": {"name": method},
            "dataset_id": 1,
            "model": "base",
            "supervision": {"density": "sample"},
            "optimisation": {"steps": 7, "learning_rate": 3e-6, "activation_checkpointing": True},
            "lora": {"rank": 3},
        }
    )
    typed = typed_from(GROUPS, body)
    assert (
        TrainingBody.model_validate(
            {**body_from(GROUPS, typed, method), "supervision": {"density": "sample"}}
        )
        == body
    )


def test_what_was_not_typed_is_left_to_its_default():
    body = body_from(GROUPS, {"method.name": ["dpo"], "optimisation.steps": [""]}, "dpo")
    assert "steps" not in body["optimisation"]
    assert Optimisation.model_validate(body["optimisation"]) == Optimisation()


def test_fields_of_other_methods_and_of_parts_that_are_off_are_not_sent():
    typed = {"method.name": ["dpo"], "dpo.beta": ["0.3"], "ppo.gamma": ["0.9"], "lora.rank": ["8"]}
    body = body_from(GROUPS, typed, "dpo")
    assert body["method"]["beta"] == "0.3"
    assert "gamma" not in body["method"]
    assert "lora" not in body
    assert body_from(GROUPS, {**typed, "lora?": ["true"]}, "dpo")["lora"] == {"rank": "8"}


def test_json_that_is_none_is_refused_with_its_field():
    with pytest.raises(Invalid) as refused:
        body_from(GROUPS, {"optimisation.adam_betas": ["[0.9"]}, "dpo")
    assert refused.value.errors[0].loc == ("body", "optimisation", "adam_betas")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("method", "dpo", "beta"), "dpo.beta"),
        (("method", "beta"), "dpo.beta"),
        (("method",), "method.name"),
        (("model", "int"), "model"),
        (("data", "part"), None),
        (("lora",), "lora?"),
        (("nowhere",), None),
    ],
)
def test_a_fault_finds_its_field(place, name):
    found, rest = shown(GROUPS, {}, [Problem(("body", *place), "is wrong")], "dpo")
    with_error = [field.name for group in found for field in group.fields if field.error]
    assert with_error == ([] if name is None else [name])
    assert rest == ([f"{'.'.join(place)} is wrong.".capitalize()] if name is None else [])


def failed(*problems: Problem) -> Invalid:
    """A request that could not be used."""
    return Invalid("Model cannot be used: it is missing.", errors=problems)


def test_the_head_of_a_form_names_the_fields_whose_faults_stand_beside_them():
    error = failed(Problem(("body", "model"), "is missing"), Problem(("body", "dpo", "beta"), "is no number"))
    labels = {field.name: field.label for group in GROUPS for field in group.fields}
    assert headline_of(error, GROUPS, "dpo").endswith(
        f"Not yet: {labels['model']}, {labels['dpo.beta']}. Each of these says beside it what is wrong."
    )
    # A fault that no field shows is told at the head.
    assert (
        headline_of(failed(Problem(("body",), "Give a model.")), GROUPS)
        == f"{labels['model']} cannot be used: it is missing."
    )


def test_a_preview_says_each_fault_with_the_name_of_its_field():
    error = failed(
        Problem(("body", "model"), "is missing"),
        Problem(("body", "dpo", "beta"), "Give a model too"),
        Problem(("body",), "Nothing would be left"),
    )
    labels = {field.name: field.label for group in GROUPS for field in group.fields}
    assert faults_of(error, GROUPS, "dpo") == [
        f"{labels['model']} is missing.",
        f"{labels['dpo.beta']}: Give a model too.",
        "Nothing would be left.",
    ]


def test_a_folded_group_with_a_fault_is_opened():
    group = FieldGroup("Folded", (FormField("a", "A"),))
    assert not shown([group], {})[0][0].is_open
    assert shown([group], {}, [Problem(("body", "a"), "bad")])[0][0].is_open


def test_a_choice_that_is_no_longer_there_stays_visible():
    field = FormField("a", "A", "select", choices=(("1", "one"),))
    (group,), _ = shown([FieldGroup("", (field,))], {"a": ["7"]})
    assert [(one.value, one.selected) for one in group.fields[0].options] == [("1", False), ("7", True)]
