"""The demo: fills the dashboard with a small world whose errors are known."""

from __future__ import annotations

from starlette.responses import JSONResponse

from app.api.parts.common import door
from app.api.parts.idempotency import OnceDep
from app.api.runs.runs import RunView, accepted
from app.dependencies import SessionDep, SettingsDep
from app.problems import responses
from app.services import demo

router = door("demo")


@router.post("", status_code=202, response_model=RunView, responses=responses(507))
def load_demo(session: SessionDep, settings: SettingsDep, once: OnceDep) -> JSONResponse:
    """Queues the demo; where it is loaded or on its way already, this is its run."""
    return once.answer(session, b"", lambda: accepted(demo.load(session, settings)))
