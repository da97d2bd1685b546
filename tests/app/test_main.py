"""The application as a whole: one shape of failure, headers on everything, limits, and a light process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.api.docs import PAGE
from app.errors import AppError, Conflict, NotReady, Problem, StorageFull
from app.main import create_app
from app.middleware import MAX_BODY_BYTES
from app.security import HEADERS
from app.settings import MIB, Settings
from app.static_files import STATIC_FOLDER
from engine.errors import ModelError, RequestError, RowError

TOKEN = "the-token"
ORIGIN = "http://127.0.0.1:8321"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
VENDOR = STATIC_FOLDER / "vendor"
FIELDS = {"type", "title", "status", "detail", "instance", "code", "errors", "request_id"}

FAILURES: dict[str, tuple[Exception, int, str]] = {
    "conflict": (Conflict("Taken.", errors=[Problem(("body", "name"), "is taken")]), 409, "conflict"),
    "full": (StorageFull("Full."), 507, "storage_full"),
    "away": (NotReady("Away."), 503, "not_ready"),
    "app": (AppError("Hm.", code="odd"), 500, "odd"),
    "model": (ModelError("No config.json; name a model's folder."), 422, "model_unusable"),
    "row": (RowError(12, "is no object", "chosen"), 422, "invalid_row"),
    "field": (RequestError("Name a policy.", field="sources.0.name"), 422, "invalid_request"),
    "bug": (ZeroDivisionError("secret detail"), 500, "internal_error"),
}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    settings = Settings(
        data_dir=tmp_path, token=SecretStr(TOKEN), database_url=NOWHERE, max_upload_mib=1, log_level="error"
    )
    app = create_app(settings)

    @app.get("/fail/{name}")
    def fail(name: str) -> None:
        raise FAILURES[name][0]

    @app.post("/echo")
    def echo(body: dict[str, int]) -> dict[str, int]:
        return body

    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return TestClient(app, base_url=ORIGIN, headers=headers, follow_redirects=False)


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_has_one_shape(client: TestClient, name: str) -> None:
    _, status, code = FAILURES[name]
    answer = client.get(f"/fail/{name}")
    document = answer.json()
    assert answer.status_code == document["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(document) == FIELDS
    assert document["code"] == code
    assert document["type"] == f"urn:rewardscope:problem:{code}"
    assert document["instance"] == f"/fail/{name}"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_an_error_of_the_engine_names_its_field_as_a_place_of_the_body(client: TestClient) -> None:
    places = client.get("/fail/field").json()["errors"]
    assert places == [{"loc": ["body", "sources", 0, "name"], "msg": "Name a policy."}]


def test_faults_say_where_they_are(client: TestClient) -> None:
    assert client.get("/fail/conflict").json()["errors"] == [{"loc": ["body", "name"], "msg": "is taken"}]
    assert client.get("/fail/row").json()["errors"] == [
        {"loc": ["line", 12, "chosen"], "msg": "is no object"}
    ]


def test_a_bug_tells_nothing_of_itself(client: TestClient) -> None:
    text = client.get("/fail/bug").text
    assert "secret" not in text
    assert "Traceback" not in text
    assert "ZeroDivision" not in text


def test_a_server_that_is_not_ready_says_when_to_come_back(client: TestClient) -> None:
    assert client.get("/fail/away").headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/v1/nowhere", 404, "not_found"),
        ("GET", "/static/nowhere.css", 404, "not_found"),
        ("GET", "/static/../../app/main.py", 404, "not_found"),
        ("DELETE", "/echo", 405, "method_not_allowed"),
        ("PATCH", "/docs", 405, "method_not_allowed"),
        ("POST", "/static/docs/init.js", 405, "method_not_allowed"),
        ("POST", "/echo", 422, "invalid_request"),
    ],
)
def test_what_does_not_exist_has_the_same_shape(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == FIELDS
    assert answer.json()["code"] == code


def test_a_wrong_method_names_the_right_ones(client: TestClient) -> None:
    answer = client.delete("/echo")
    assert answer.headers["allow"] == "POST"
    assert "use POST" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "limit"), [("/echo", MAX_BODY_BYTES), ("/api/v1/datasets", MIB)])
def test_a_body_too_large_is_refused_by_its_declared_length(
    client: TestClient, path: str, limit: int
) -> None:
    answer = client.post(path, content=b"", headers={"content-length": str(limit + 1)})
    assert answer.status_code == 413
    assert answer.json()["code"] == "payload_too_large"


@pytest.mark.parametrize(("path", "limit"), [("/echo", MAX_BODY_BYTES), ("/api/v1/datasets", MIB)])
def test_a_body_too_large_is_refused_while_it_arrives(client: TestClient, path: str, limit: int) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < limit + 8 * MIB:
            sent += MIB
            yield b" " * MIB

    answer = client.post(path, content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert set(answer.json()) == FIELDS
    assert "MiB" in answer.json()["detail"]


def test_strangers_send_no_body_at_all(app: FastAPI) -> None:
    """The gate answers before anything was read."""

    def never() -> Iterator[bytes]:
        yield b" " * (MAX_BODY_BYTES + 1)

    answer = TestClient(app, base_url=ORIGIN).post("/echo", content=never())
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/static/docs/init.js", "/nowhere", "/fail/bug"])
def test_security_headers_are_on_every_answer(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    for name, value in HEADERS.items():
        assert headers[name] == value
    assert len(headers["x-request-id"]) == 16


def test_health_needs_no_token(app: FastAPI) -> None:
    anonymous = TestClient(app, base_url=ORIGIN)
    assert anonymous.get("/healthz").json() == {"status": "ok"}
    assert anonymous.get("/version").json()["name"] == "rewardscope"


def test_a_server_without_its_data_base_lives_but_is_not_ready(app: FastAPI) -> None:
    anonymous = TestClient(app, base_url=ORIGIN)
    assert anonymous.get("/healthz").status_code == 200
    answer = anonymous.get("/readyz")
    assert answer.status_code == 503
    assert set(answer.json()) == FIELDS


def test_every_route_but_the_public_ones_asks_who_is_there(app: FastAPI) -> None:
    anonymous = TestClient(app, base_url=ORIGIN, follow_redirects=False)
    asked = 0
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            if path in ("/healthz", "/readyz", "/version", "/metrics", "/login"):
                continue
            answer = anonymous.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, f"{method} {path}"
            asked += 1
    assert asked > 10


def test_large_answers_are_compressed(client: TestClient) -> None:
    assert client.get("/openapi.json").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in client.get("/healthz").headers


def test_the_documentation_has_no_inline_script_and_stays_on_this_server() -> None:
    assert "<script>" not in PAGE
    assert "http:" not in PAGE
    assert "https:" not in PAGE
    assert "style=" not in PAGE


def test_the_documentation_finds_its_files(client: TestClient) -> None:
    addresses = [part.split('"')[0] for part in PAGE.replace('src="', 'href="').split('href="')[1:]]
    assert len(addresses) == 4
    for address in addresses:
        assert client.get(address).status_code == 200, address


def test_versioned_files_are_kept_for_ever_and_others_asked_for_again(client: TestClient) -> None:
    vendored = next(line for line in PAGE.split('"') if line.endswith(".css"))
    assert "immutable" in client.get(vendored).headers["cache-control"]
    assert "immutable" in client.get("/static/docs/init.js?v=1").headers["cache-control"]
    first = client.get("/static/docs/init.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/docs/init.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


def test_vendored_files_are_those_that_the_lock_names() -> None:
    lock = json.loads((VENDOR / "vendor.lock.json").read_text())
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "vendor.lock.json"
    }
    assert found == lock
    for folder in {name.partition("/")[0] for name in lock}:
        assert any(name.startswith(f"{folder}/LICENSE") for name in lock), f"{folder} needs its licence"


def test_the_web_process_imports_nothing_heavy(tmp_path: Path) -> None:
    program = f"""
import json, sys
from app.main import create_app
from app.settings import Settings
app = create_app(Settings(data_dir={str(tmp_path)!r}, database_url={NOWHERE!r}))
app.openapi()
import psutil
heavy = [name for name in ("torch", "transformers", "datasets", "accelerate") if name in sys.modules]
print(json.dumps([heavy, psutil.Process().memory_info().rss // 2**20]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy, mebibytes = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"The web process takes {mebibytes} MiB.\n")
    assert heavy == []
    assert mebibytes < 400
