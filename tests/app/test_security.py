"""The gate: tokens, cookies, foreign sites and foreign hosts."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.main import create_app
from app.security import Authentication, UnsafeStart, check_bind, load_token, local_path
from app.settings import Settings

TOKEN = "the-token"
ORIGIN = "http://127.0.0.1:8321"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def make_settings(tmp_path: Path, **changes: object) -> Settings:
    values = {"data_dir": tmp_path, "token": SecretStr(TOKEN), "database_url": NOWHERE, **changes}
    return Settings.model_validate(values)


def browser(settings: Settings, origin: str = ORIGIN) -> TestClient:
    headers = {"Accept": "text/html"}
    return TestClient(create_app(settings), base_url=origin, headers=headers, follow_redirects=False)


@pytest.fixture
def anonymous(tmp_path: Path) -> TestClient:
    return browser(make_settings(tmp_path))


@pytest.fixture
def signed_in(anonymous: TestClient) -> TestClient:
    anonymous.get(f"/docs?token={TOKEN}")
    return anonymous


def test_the_token_of_the_url_becomes_a_cookie_and_leaves_the_address(anonymous: TestClient) -> None:
    answer = anonymous.get(f"/docs?token={TOKEN}&sort=conflict")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/docs?sort=conflict"
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert TOKEN not in cookie
    assert anonymous.get("/docs").status_code == 200


def test_a_wrong_token_in_the_url_is_refused_and_sets_no_cookie(anonymous: TestClient) -> None:
    answer = anonymous.get("/docs?token=wrong")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_redirect_never_leaves_the_server(anonymous: TestClient) -> None:
    answer = anonymous.get(f"//evil.example/x?token={TOKEN}")
    assert not answer.headers.get("location", "/").startswith("//")


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "", None, "/a\n"]
)
def test_a_sign_in_leads_to_paths_of_this_server_only(target: str | None) -> None:
    assert local_path(target) == "/"


def test_a_path_of_this_server_is_kept() -> None:
    assert local_path("/datasets/1?sort=conflict") == "/datasets/1?sort=conflict"


def test_a_person_without_a_session_is_led_to_the_login(anonymous: TestClient) -> None:
    answer = anonymous.get("/docs?a=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fdocs%3Fa%3D1"


def test_a_program_without_a_token_gets_a_document(anonymous: TestClient) -> None:
    answer = anonymous.get("/openapi.json")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthorized"


@pytest.mark.parametrize("header", ["Bearer the-token", "bearer the-token", "BEARER  the-token "])
def test_a_bearer_token_opens_the_api(anonymous: TestClient, header: str) -> None:
    assert anonymous.get("/openapi.json", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer ", "Bearer", "Bearer the-toke", b"Bearer \xff\xfe"]
)
def test_another_bearer_token_does_not(anonymous: TestClient, header: str | bytes) -> None:
    answer = anonymous.get("/openapi.json", headers=[(b"authorization", _bytes(header))])
    assert answer.status_code == 401


def test_basic_credentials_open_nothing(anonymous: TestClient) -> None:
    assert anonymous.get("/openapi.json", auth=("admin", TOKEN)).status_code == 401


def test_a_wrong_bearer_is_not_rescued_by_a_cookie(signed_in: TestClient) -> None:
    assert signed_in.get("/openapi.json", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_forged_or_spent_session_opens_nothing(
    anonymous: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymous.get(f"/docs?token={TOKEN}")
    name, value = next(iter(anonymous.cookies.items()))
    expires, nonce, signature = value.split(".")
    for forged in (
        f"{int(expires) + 1}.{nonce}.{signature}",
        f"{expires}.{nonce}.{'0' * 64}",
        "",
        "..",
        "é.x.y",
    ):
        cookies = {"cookie": f"{name}={forged}".encode()}
        anonymous.cookies.clear()
        assert anonymous.get("/openapi.json", headers=cookies).status_code == 401
    later = int(expires) + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert anonymous.get("/openapi.json", headers={"cookie": f"{name}={value}"}).status_code == 401


def test_a_new_token_ends_all_sessions(tmp_path: Path, signed_in: TestClient) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in signed_in.cookies.items())
    other = browser(make_settings(tmp_path, token=SecretStr("another-token")))
    assert other.get("/openapi.json", headers={"cookie": cookies}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 405),
        ({"sec-fetch-site": "none"}, 405),
        ({"origin": ORIGIN}, 405),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": ORIGIN}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_cookie_writes_only_from_our_own_pages(
    signed_in: TestClient, headers: dict[str, str], status: int
) -> None:
    """405: the request came through the gate to a route that takes no POST."""
    assert signed_in.post("/docs", headers=headers).status_code == status


def test_a_bearer_needs_no_origin(anonymous: TestClient) -> None:
    assert anonymous.post("/docs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "10.0.0.7", "127.0.0.1.evil.example"])
def test_a_local_server_answers_to_no_other_name(anonymous: TestClient, host: str) -> None:
    answer = anonymous.get("/healthz", headers={"host": host, "accept": "*/*"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost:8321", "127.0.0.1", "127.8.8.8:1", "[::1]:8321", "LOCALHOST"])
def test_a_local_server_answers_to_its_own_names(anonymous: TestClient, host: str) -> None:
    assert anonymous.get("/healthz", headers={"host": host}).status_code == 200


def test_a_proxied_server_answers_to_its_public_name(tmp_path: Path) -> None:
    client = browser(make_settings(tmp_path, public_url="https://rewards.example/"))
    assert client.get("/healthz", headers={"host": "rewards.example"}).status_code == 200
    client.get(f"/docs?token={TOKEN}", headers={"host": "rewards.example"})
    headers = {"host": "127.0.0.1:8321", "origin": "https://rewards.example"}
    client.get(f"/docs?token={TOKEN}")
    assert client.post("/docs", headers=headers).status_code == 405


def test_an_open_bind_without_a_token_of_ones_own_is_refused(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, host="0.0.0.0", token=None)
    with pytest.raises(UnsafeStart, match="REWARDSCOPE_TOKEN"):
        create_app(settings)
    check_bind(make_settings(tmp_path, host="0.0.0.0"))


def test_the_kept_token_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "new", token=None)
    token = load_token(settings)
    assert len(token) >= 32
    assert load_token(settings) == token
    kept = tmp_path / "new" / "token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.chmod(0o644)
    load_token(settings)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == ["token"]


def test_a_token_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file\n")
    assert load_token(make_settings(tmp_path, token=None, token_file=tmp_path / "secret")) == "from-a-file"


def test_an_absent_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsafeStart, match="REWARDSCOPE_TOKEN_FILE"):
        load_token(make_settings(tmp_path, token=None, token_file=tmp_path / "absent"))


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_token_is_refused(tmp_path: Path, empty: str) -> None:
    with pytest.raises(UnsafeStart, match="empty"):
        load_token(make_settings(tmp_path, token=SecretStr(empty)))
    (tmp_path / "token").write_text(empty)
    with pytest.raises(UnsafeStart, match="empty"):
        load_token(make_settings(tmp_path, token=None))
    with pytest.raises(UnsafeStart, match="empty"):
        Authentication(empty)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
