"""What doors ask for: the settings, a session whose transaction is theirs, and proof of who is calling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from app.db.session import Database
from app.errors import Unauthorized
from app.security import Principal
from app.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="The access token that the server printed at its start.")


def get_settings(request: Request) -> Settings:
    """The settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


def get_database(request: Request) -> Database:
    """The data base itself: for answers that outlive the request's transaction, such as streams."""
    database: Database = request.app.state.database
    return database


def get_session(database: Annotated[Database, Depends(get_database)]) -> Iterator[Session]:
    """One transaction for the whole request: committed when the door returns, rolled back when it raises."""
    with database.session() as session:
        yield session


def require_auth(
    request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    """How the caller proved who they are, as the gate found out. Raises Unauthorized where they did not."""
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None:
        raise Unauthorized("Send the access token as `Authorization: Bearer ...`.")
    return principal


SettingsDep = Annotated[Settings, Depends(get_settings)]
DatabaseDep = Annotated[Database, Depends(get_database)]
# Without the scope FastAPI would send the answer before the transaction is committed.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
