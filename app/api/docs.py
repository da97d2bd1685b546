"""The API's own pages: Swagger UI from this server, with no line of script in the HTML."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import HTMLResponse

SWAGGER = "/static/vendor/swagger-ui-5.35.0"

PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API · RewardScope</title>
<link rel="stylesheet" href="{SWAGGER}/swagger-ui.css">
<script src="{SWAGGER}/swagger-ui-bundle.js" defer></script>
<script src="/static/docs/init.js" defer></script>
</head>
<body>
<main id="swagger-ui" data-openapi="/openapi.json"></main>
<noscript>The description of the API is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs", name="docs")
def docs() -> HTMLResponse:
    return HTMLResponse(PAGE)
