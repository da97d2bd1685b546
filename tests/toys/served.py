"""Prints what the application answers to some addresses, as one JSON object: a process for plug-ins to join.

REWARDSCOPE_PLUGINS=... REWARDSCOPE_DATABASE_URL=... python -m tests.toys.served /trainings/new ...
"""

from __future__ import annotations

import json
import sys

from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    assert settings.token is not None
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8321", headers=headers) as client:
        json.dump({path: client.get(path).raise_for_status().text for path in sys.argv[1:]}, sys.stdout)
