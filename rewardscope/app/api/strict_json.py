"""Bodies that are JSON to the letter: no NaN, no Infinity, no text that cannot be stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


class StrictRequest(Request):
    """A request whose `json()` raises json.JSONDecodeError for everything that it cannot give."""

    async def json(self) -> Any:
        if not hasattr(self, "_strict_json"):
            self._strict_json = parse(await self.body())
        return self._strict_json


class StrictRoute(APIRoute):
    """A route that reads bodies as `StrictRequest` does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


def parse(body: bytes) -> Any:
    """The value that `body` says. Raises json.JSONDecodeError."""
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
        # Only an escape can bring NUL or half a surrogate pair into text that was UTF-8.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
            if "\\u0000" in json.dumps(value):
                raise ValueError("Text must not hold the NUL character")
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("The body is not UTF-8", "", error.start) from error
    except UnicodeEncodeError as error:
        raise json.JSONDecodeError("Text holds half of a surrogate pair", "", 0) from error
    except RecursionError as error:
        raise json.JSONDecodeError("The body is nested too deeply", "", 0) from error
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; send null where a number is missing")
