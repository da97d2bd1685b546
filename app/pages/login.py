"""Signing in and out: says where the access token is, and takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from app.dependencies import SettingsDep
from app.pages.parts.forms import filled
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.security import Authentication, local_path
from app.settings import Settings

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage(PageContext):
    """The form, and where to find what it asks for."""

    action: str
    next: str
    where: str
    problem: str | None


@router.get("/login", name="pages:login")
def show_login(request: Request, settings: SettingsDep) -> Response:
    """The form."""
    wanted = local_path(filled(request.query_params).get("next"))
    return render(request, "login/show.html", _page(request, settings, wanted))


@router.post("/login", name="pages:login_submit")
def sign_in(
    request: Request,
    settings: SettingsDep,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Exchanges the right token for a session."""
    authentication: Authentication = request.app.state.authentication
    wanted = local_path(next)
    if not authentication.is_right(token):
        problem = "This is not the server's token; copy it whole, from where the server started."
        return render(request, "login/show.html", _page(request, settings, wanted, problem), status=401)
    response = see_other(wanted)
    authentication.sign_in(request, response)
    return response


@router.post("/logout", name="pages:logout")
def sign_out(request: Request) -> Response:
    """Ends the browser's session."""
    authentication: Authentication = request.app.state.authentication
    response = see_other(url_of(request, "login"))
    authentication.sign_out(request, response)
    return response


def _page(request: Request, settings: Settings, wanted: str, problem: str | None = None) -> LoginPage:
    if settings.has_own_token:
        where = "It is the one that was chosen for this server (REWARDSCOPE_TOKEN); ask whoever set it up."
    else:
        where = "The server printed a URL that contains it when it started, and keeps it in its data folder."
    return LoginPage(
        title="Sign in", action=url_of(request, "login_submit"), next=wanted, where=where, problem=problem
    )
