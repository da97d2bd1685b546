"""The server that commands speak to, and the access token that lets them in.

It is the one of REWARDSCOPE_URL and REWARDSCOPE_TOKEN, else the one that `rewardscope up` starts on this
machine with the same data folder and port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from app.cli.output import Exit, print_json, refuse, refusing, status_of_http
from app.cli.serving import DataDir, read_settings
from app.settings import Settings
from rewardscope.client import RewardScope
from rewardscope.errors import ServerRefused

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Most rows that are shown.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    add_group(app, "token", "The access token.", {"show": show_token})


def add_group(
    app: typer.Typer, name: str, help_text: str, commands: Mapping[str, Callable[..., None]]
) -> None:
    """Adds commands below a common word: `rewardscope NAME COMMAND`."""
    group = typer.Typer(help=help_text, no_args_is_help=True)
    for command, function in commands.items():
        group.command(command)(function)
    app.add_typer(group, name=name)


@contextmanager
def server_at_hand() -> Iterator[RewardScope]:
    """The server, with its refusals turned into sentences."""
    import httpx

    from app.security import load_token

    settings = read_settings()
    with refusing():
        url, token = server_address(settings), load_token(settings, make=False)
    with RewardScope(url, token) as server:
        try:
            yield server
        except ServerRefused as error:
            lines = [f"{' '.join(map(str, fault.loc))}: {fault.msg}" for fault in error.errors]
            refuse(error.detail, lines, status_of_http(error.status))
        except httpx.TransportError:
            refuse(
                f"No server answers at {url}.",
                ["Start one with `rewardscope up`, or set REWARDSCOPE_URL and REWARDSCOPE_TOKEN."],
                Exit.SERVER_AWAY,
            )


def server_address(settings: Settings) -> str:
    """Where the server of these settings is."""
    from app.cli.banner import address

    return settings.url or address(settings, settings.port)


def show_token(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print the access token that the server of this data folder asks for."""
    from app.security import load_token

    with refusing():
        token = load_token(read_settings(data_dir=data_dir), make=False)
    if as_json:
        print_json({"token": token})
    else:
        typer.echo(token)
