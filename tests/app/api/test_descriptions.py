"""What the OpenAPI says of requests: every field has a sentence, of its own or of the part that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


def fields(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that a body of the API may hold, at any depth, with the name of what it is part of."""
    parts = document["components"]["schemas"]
    seen: set[str] = set()

    def walk(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(schema, list):
            for one in schema:
                yield from walk(one, where)
        if not isinstance(schema, dict):
            return
        if name := schema.get("$ref", "").rsplit("/", 1)[-1]:
            if name not in seen:
                seen.add(name)
                yield from walk(parts[name], name)
            return
        for name, field in schema.get("properties", {}).items():
            yield f"{where}.{name}", parts.get(field.get("$ref", "").rsplit("/", 1)[-1], {}) | field
            yield from walk(field, f"{where}.{name}")
        for key in ("anyOf", "oneOf", "allOf", "prefixItems", "items", "additionalProperties"):
            yield from walk(schema.get(key), where)

    for path, operations in document["paths"].items():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from walk(content["schema"], path)


@pytest.fixture
def described(client) -> dict[str, dict[str, Any]]:
    return dict(fields(client.get("/openapi.json").json()))


def test_every_field_of_every_request_is_described(described):
    assert len(described) > 250
    assert [name for name, field in described.items() if not field.get("description")] == []


def test_a_field_says_its_title_unit_bounds_and_what_null_is(described):
    clip = described["Dpo.rejected_clip"]
    assert (clip["title"], clip["unit"], clip["default"]) == ("Rejected clip", "nats", 2.0)
    assert {"type": "number", "minimum": 0} in [
        {key: one[key] for key in ("type", "minimum") if key in one} for one in clip["anyOf"]
    ]
    assert clip["description"].endswith("Null: no clip.")


def test_what_tells_a_method_from_others_needs_no_sentence_of_its_own(described):
    assert described["Ppo.name"]["description"] == "Always `ppo`: tells these fields from others."
