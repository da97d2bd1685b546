"""Turns a page's dataclass into HTML: one Jinja environment in which undefined names are errors.

A template gets its dataclass as `page`, and `url`, `static` and `here` for addresses, so that no path is
written in a template.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import iter_route_contexts
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.pages.parts import numbers

WEB = Path(__file__).parents[3] / "web"
Section = Literal["home", "runs", "queue", "recipes", "models", "playground", "settings"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """What every whole page has; each page adds its own fields."""

    title: str
    section: Section = None
    """The entry of the bar that is marked as the current one."""


@dataclass(frozen=True, slots=True)
class Option:
    """An entry of a select box."""

    value: str
    label: str
    selected: bool = False
    disabled: bool = False


def make_environment() -> Environment:
    """The environment of all templates, with the words that `numbers` has for figures."""
    environment = Environment(
        loader=FileSystemLoader(WEB / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters = (
        "signed",
        "plain_number",
        "percent",
        "count",
        "counted",
        "size",
        "data_size",
        "duration",
        "age",
        "moment",
    )
    environment.filters.update({name: getattr(numbers, name) for name in (*filters, "shortened")})
    environment.filters["with_code"] = with_code
    environment.globals["static"] = static_url
    return environment


def with_code(text: str) -> Markup:
    """A sentence of a docstring, whose words between backticks are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped


@cache
def static_url(path: str) -> str:
    """The address of a static file, with a digest of its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((WEB / "static" / path).read_bytes()).hexdigest()[:12]
    return f"/static/{path}?v={digest}"


ENVIRONMENT = make_environment()


def render(
    request: Request,
    template: str,
    page: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """The answer that shows `page` by `template`. Pages are never kept by caches: they tell of the moment."""

    def url(name: str, **path: Any) -> str:
        return url_of(request, name, **path)

    html = ENVIRONMENT.get_template(template).render(page=page, url=url, here=request.url.path)
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store", **(headers or {})})


def url_of(request: Request, name: str, query: Mapping[str, Any] | None = None, **path: Any) -> str:
    """The address of the page `name`, as the router knows it; values of None are left out of the query."""
    route = _routes_by_name(request.app)[f"pages:{name}"]
    return with_query(str(route.url_path_for(f"pages:{name}", **path)), query or {})


def _routes_by_name(app: FastAPI) -> Mapping[str, Any]:
    """The routes of the application. Kept with it, since the router looks through all of them for each
    address, and a long list has hundreds of addresses."""
    if not hasattr(app.state, "routes_by_name"):
        app.state.routes_by_name = {route.name: route for route in iter_route_contexts(app.routes)}
    routes: Mapping[str, Any] = app.state.routes_by_name
    return routes


def with_query(address: str, query: Mapping[str, Any]) -> str:
    """An address with a query string; values of None are left out."""
    present = {name: value for name, value in query.items() if value is not None}
    return f"{address}?{urlencode(present)}" if present else address


def see_other(address: str) -> RedirectResponse:
    """Sends the browser on after a form was done, so that reloading repeats nothing."""
    return RedirectResponse(address, 303)
