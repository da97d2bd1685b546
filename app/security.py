"""Who may come in: one access token, as a bearer header for programs and a cookie for browsers.

The token is printed as a URL; the browser exchanges it once for a cookie and loses it from the address bar.
The cookie is no copy of the token: it is a signature made with it, so that a new token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError, Forbidden, Invalid, NotFound, Unauthorized
from app.problems import wants_page
from app.settings import Settings

SESSION_SECONDS = 30 * 24 * 3600
TOKEN_FILE = "token"  # noqa: S105 - the name of a file
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/version", "/metrics", "/login", "/favicon.ico"})
PUBLIC_PREFIXES = ("/static/",)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Principal = Literal["bearer", "cookie"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class UnsafeStart(AppError):
    """The server would be open to strangers; it does not start like that."""

    status = 500
    code = "unsafe_start"
    title = "Refused to start"


def check_bind(settings: Settings) -> None:
    """Raises UnsafeStart where other machines could reach the server and nobody chose a token."""
    if not settings.binds_loopback and not settings.has_own_token:
        raise UnsafeStart(
            f"Other machines can reach {settings.host}, so choose an access token: set REWARDSCOPE_TOKEN or "
            "REWARDSCOPE_TOKEN_FILE, or bind 127.0.0.1."
        )


def load_token(settings: Settings, *, make: bool = True) -> str:
    """The admin's access token: the one that was set, else the one in the data folder.

    A server makes it there where it is missing; whoever asks what it is does not (`make=False`): NotFound.
    """
    if settings.token is not None:
        return _not_empty(settings.token.get_secret_value(), "REWARDSCOPE_TOKEN")
    if settings.token_file is not None:
        try:
            return _not_empty(settings.token_file.read_text("utf-8"), str(settings.token_file))
        except OSError as error:
            raise UnsafeStart(
                f"The token file {settings.token_file} cannot be read ({error.strerror}); "
                "correct REWARDSCOPE_TOKEN_FILE."
            ) from error
    path = settings.data_dir / TOKEN_FILE
    if not make and not path.is_file():
        raise NotFound(
            f"There is no access token in {settings.data_dir}: no server was started with this data folder. "
            "Name the folder of your server with REWARDSCOPE_DATA_DIR (or --data-dir, where the command has "
            "it), set REWARDSCOPE_URL and REWARDSCOPE_TOKEN for a server elsewhere, or start one with "
            "`rewardscope up`."
        )
    return _kept_token(path)


def _kept_token(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and linked into place: of two starters at once, one wins and both read the winner's.
    beside = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    path.chmod(0o600)
    return _not_empty(path.read_text("utf-8"), str(path))


def _not_empty(token: str, origin: str) -> str:
    token = token.strip()
    if not token:
        raise UnsafeStart(f"The access token in {origin} is empty; write one into it, or remove it.")
    return token


def local_path(target: str | None) -> str:
    """`target` if it is a path on this server, else the home page: a sign-in never sends people elsewhere."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    return target if target.isprintable() else "/"


class Authentication:
    """Knows the access token and checks everything against it in constant time."""

    def __init__(self, token: str) -> None:
        self._token = _not_empty(token, "the settings").encode()

    def is_right(self, token: str) -> bool:
        """Whether this is the access token."""
        return hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token)

    def identify(self, request: Request) -> Principal | None:
        """How the caller proved who they are, or None. Raises Unauthorized for a wrong bearer token."""
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if self.is_right(credentials):
                return "bearer"
            raise Unauthorized("This access token is not the server's; look for it where the server started.")
        return "cookie" if self._is_session(request.cookies.get(_cookie_name(request), "")) else None

    def sign_in(self, request: Request, response: Response) -> None:
        """Gives the browser a session."""
        response.set_cookie(
            _cookie_name(request),
            self._session(int(time.time()) + SESSION_SECONDS),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )

    def sign_out(self, request: Request, response: Response) -> None:
        """Takes the browser's session away."""
        response.delete_cookie(_cookie_name(request), httponly=True, samesite="lax")

    def _session(self, expires: int) -> str:
        body = f"{expires}.{secrets.token_hex(8)}"
        return f"{body}.{self._signature(body)}"

    def _is_session(self, value: str) -> bool:
        body, _, signature = value.rpartition(".")
        expires = body.partition(".")[0]
        signed = hmac.compare_digest(
            signature.encode("utf-8", "surrogateescape"), self._signature(body).encode()
        )
        return signed and expires.isdecimal() and int(expires) > time.time()

    def _signature(self, body: str) -> str:
        return hmac.new(self._token, b"rewardscope session " + body.encode(), hashlib.sha256).hexdigest()


def _cookie_name(request: Request) -> str:
    # Browsers share cookies between the ports of a host; two servers must not sign each other out.
    return f"rewardscope-{request.url.port or request.url.scheme}"


class Gate:
    """Lets in who may come in, before any of the body is read; leaves `request.state.principal` behind."""

    def __init__(self, app: ASGIApp, *, settings: Settings, authentication: Authentication) -> None:
        self.app = app
        self.settings = settings
        self.authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        check_host(request, self.settings)
        answer = self._admit(request)
        await (answer or self.app)(scope, receive, send)

    def _admit(self, request: Request) -> Response | None:
        """None lets the request through, else the redirect it gets. Raises Unauthorized and Forbidden."""
        if "token" in request.query_params and request.method == "GET" and not _is_for_programs(request):
            return self._exchange(request)
        principal = request.state.principal = self.authentication.identify(request)
        if principal == "cookie" and request.method not in SAFE_METHODS:
            check_origin(request, self.settings)
        if principal is not None or is_public(request.url.path):
            return None
        if request.method == "GET" and wants_page(request) and "hx-request" not in request.headers:
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse("/login?" + urlencode({"next": wanted}), 303)
        raise Unauthorized(
            "Send the access token as `Authorization: Bearer ...`, or open the URL that the server printed "
            "when it started."
        )

    def _exchange(self, request: Request) -> Response:
        """The token of the URL for a cookie, and the same address without the token."""
        if not self.authentication.is_right(request.query_params["token"]):
            raise Unauthorized("The token in this URL is not the server's; open the URL it printed last.")
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        target = local_path(request.url.path) + (f"?{urlencode(rest)}" if rest else "")
        response = RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
        self.authentication.sign_in(request, response)
        return response


def is_public(path: str) -> bool:
    """Whether a path is for everybody: health, metrics (which have their own switch), login and its looks."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


def _is_for_programs(request: Request) -> bool:
    return request.url.path.startswith(("/api/", *PUBLIC_PREFIXES))


def check_host(request: Request, settings: Settings) -> None:
    """Raises Invalid where a server for this machine alone is called by another name (DNS rebinding)."""
    if not settings.binds_loopback:
        return
    host = _host_name("//" + request.headers.get("host", ""))
    known = {"localhost", settings.host.lower(), _host_name(settings.public_url or "")}
    if host in known or _is_loopback(host):
        return
    raise Invalid(
        f"This server answers to localhost only, not to {host or 'an empty host'}; set "
        "REWARDSCOPE_PUBLIC_URL if a proxy stands before it.",
        code="unknown_host",
    )


def check_origin(request: Request, settings: Settings) -> None:
    """Raises Forbidden where a browser's cookie came along with another site's request."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        ours = {request.headers.get("host", ""), urlsplit(settings.public_url or "").netloc}
        is_ours = origin != "" and origin in ours
    if not is_ours:
        raise Forbidden(
            "This request came from another site; open the page on this server and try again.",
            code="cross_site_request",
        )


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def protect(headers: MutableHeaders, *, is_https: bool) -> None:
    """Adds the security headers to an answer; one that is set already stays."""
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if is_https:
        headers.setdefault("StrictModel-Transport-Security", "max-age=31536000")
