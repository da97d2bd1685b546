"""What is told of the fields of a request: titles, defaults, choices, and a section for each class."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from engine.fields import StrictModel, declared, declared_fields, sections, shown, title_of


class Wheel(StrictModel):
    """What turns."""

    name: Literal["wheel"] = "wheel"
    radius: float = Field(0.3, gt=0, title="Radius", json_schema_extra=shown(unit="metres"))
    """From the hub to the road."""


class Runner(StrictModel):
    """What glides."""

    name: Literal["runner"] = "runner"


class Brake(StrictModel):
    """What stops."""

    force: float = 1.0


class Cart(StrictModel):
    """What carries."""

    on: Annotated[Wheel | Runner, Field(discriminator="name")] = Wheel()
    brake: Brake = Brake(force=2.5)
    spare: Brake | None = Field(None, json_schema_extra=shown(blank="none"))
    colour: Literal["red", "blue"] = Field("blue", json_schema_extra=shown(words={"red": "red as wine"}))
    load: float | None = Field(5.0, json_schema_extra=shown(blank="any load"))


def test_a_field_tells_what_stands_beside_it():
    radius = declared(Wheel, "radius")
    assert (radius.title, radius.unit, radius.default, radius.bounds) == (
        "Radius",
        "metres",
        "0.3",
        "above 0",
    )
    assert radius.sentence == "From the hub to the road."


def test_the_default_of_a_part_is_that_of_the_whole():
    assert declared(Cart, "brake.force").default == "2.5"
    assert declared(Cart, "spare.force").default == "1"
    assert declared(Cart, "spare").default == "none"


def test_choices_begin_with_the_default_and_have_words():
    assert list(declared(Cart, "colour").words.items()) == [("blue", "blue"), ("red", "red as wine")]


def test_a_number_can_be_switched_off_where_null_is_not_what_it_has_anyway():
    assert declared(Cart, "load").can_be_switched_off
    assert not declared(Cart, "spare").can_be_switched_off


def test_fields_of_parts_stand_behind_those_that_may_be_missing():
    paths = [field.path for field in declared_fields(Cart)]
    assert paths == ["on", "brake.force", "spare", "spare.force", "colour", "load"]


def test_each_class_that_a_field_may_hold_has_a_section():
    found = {section.path: [field.path for field in section.fields] for section in sections(Cart)}
    assert found == {
        "": ["on", "brake.force", "spare", "spare.force", "colour", "load"],
        "on wheel": ["on.radius"],
    }


def test_a_place_has_the_title_of_its_field():
    assert title_of(Wheel, ("radius",)) == "Radius"
    assert title_of(Cart, ("brake", "force")) == "Force"
    assert title_of(Cart, ("on", "wheel", "radius")) == "Radius"
    assert title_of(Cart, ("nowhere",)) is None


@pytest.mark.parametrize("values", [{"force": float("nan")}, {"force": float("inf")}, {"weight": 1}])
def test_a_request_refuses_what_it_does_not_know_and_what_is_no_number(values):
    with pytest.raises(ValidationError):
        Brake.model_validate(values)


def test_the_schema_says_what_null_stands_for():
    assert Cart.model_json_schema()["properties"]["load"]["description"] == "Null: any load."
