"""What the OpenAPI says and what the server does are the same: requests made from the schema, right ones and
wrong ones, find no crash and no answer that is not stated."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.transport.asgi import ASGI_TRANSPORT
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

# Described at collection, when there is no data base yet; the tests then ask an application that has one.
_described = create_app(
    Settings(data_dir=Path("never-made"), database_url="postgresql://nowhere/x", token=SecretStr("x"))
)
schema = schemathesis.openapi.from_dict(_described.openapi())


@schema.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_does_what_its_description_says(case: schemathesis.Case, client: TestClient) -> None:
    headers = {"Authorization": client.headers["authorization"]}
    answer = ASGI_TRANSPORT.send(case, app=client.app, base_url=str(client.base_url), headers=headers)
    case.validate_response(answer, checks=CHECKS)
