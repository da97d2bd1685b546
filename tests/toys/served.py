"""Prints what the application answers to some addresses, as one JSON object: a process for plug-ins to join.

An address with a file behind it is sent that file: as the body where it is JSON, else as an upload.

REWARDSCOPE_PLUGINS=... REWARDSCOPE_DATABASE_URL=... python -m tests.toys.served /trainings/new /datasets@FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings


def answer(client: TestClient, address: str) -> str:
    """The text of an answer that is no refusal."""
    path, _, file = address.partition("@")
    if not file:
        return client.get(path).raise_for_status().text
    if Path(file).suffix == ".json":
        return client.post(path, json=json.loads(Path(file).read_text())).raise_for_status().text
    with Path(file).open("rb") as content:
        return client.post(path, files={"file": (Path(file).name, content)}).raise_for_status().text


if __name__ == "__main__":
    settings = Settings()
    assert settings.token is not None
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8321", headers=headers) as client:
        json.dump({address: answer(client, address) for address in sys.argv[1:]}, sys.stdout)
