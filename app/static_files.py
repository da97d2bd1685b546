"""The files that browsers get as they are, with as much caching as their addresses allow."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC_FOLDER = Path(__file__).parents[1] / "web" / "static"
FOR_EVER = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "no-cache"


class VersionedFiles(StaticFiles):
    """An address that names a version (`vendor/<name>-<version>/`, or `?v=`) is kept for ever; any other is
    asked for again, which costs a 304."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        names_version = path.startswith("vendor/") or "v" in parse_qs(scope["query_string"].decode("latin-1"))
        response.headers["Cache-Control"] = FOR_EVER if names_version else ASK_EACH_TIME
        return response
