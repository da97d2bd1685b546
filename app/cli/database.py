"""`db`: the tables of the data base, embedded or external."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import out, print_json, refusing
from app.cli.serving import DatabaseUrl, DataDir, database_url_of, read_settings

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    commands = typer.Typer(help="The data base.", no_args_is_help=True)
    commands.command()(upgrade)
    commands.command()(downgrade)
    commands.command()(current)
    commands.command()(backup)
    commands.command()(restore)
    app.add_typer(commands, name="db")


def upgrade(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Bring the tables to this release; does nothing when they are there already."""
    from app.db import migrate

    with refusing(), database_url_of(read_settings(database_url=database_url, data_dir=data_dir)) as url:
        before = migrate.current(url)
        migrate.upgrade(url)
        _say(as_json, before, migrate.current(url))


def downgrade(
    revision: Annotated[
        str, typer.Argument(help="Revision to go back to; `base` leaves an empty data base.")
    ],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take newer revisions back. Data in the tables that go is lost."""
    from app.db import migrate

    if not yes:
        typer.confirm("Data in the tables that go is lost. Go back?", abort=True)
    with refusing(), existing(database_url, data_dir) as url:
        before = migrate.current(url)
        migrate.downgrade(url, revision)
        _say(as_json, before, migrate.current(url))


def current(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say which revision the data base is of."""
    from app.db import migrate

    with refusing(), existing(database_url, data_dir) as url:
        found = migrate.current(url)
        if as_json:
            print_json({"current": found, "head": migrate.head()})
        else:
            out.print(f"{found or 'empty'} (this release: {migrate.head()})")


def backup(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.")],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write everything to one file, while the server may run on."""
    from app.db import backup as backups

    with refusing(), existing(database_url, data_dir) as url:
        size = backups.backup(url, file)
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        out.print(f"{file}: {size:,} bytes.", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `rewardscope db backup` wrote.")],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Fill an empty data base from a backup, and bring it to this release."""
    from app.db import backup as backups
    from app.db import migrate

    with refusing(), database_url_of(read_settings(database_url=database_url, data_dir=data_dir)) as url:
        backups.restore(url, file)
        _say(as_json, None, migrate.current(url))


def existing(database_url: str | None, data_dir: Path | None) -> AbstractContextManager[str]:
    """The URL of a data base that is there already."""
    return database_url_of(read_settings(database_url=database_url, data_dir=data_dir), make=False)


def _say(as_json: bool, before: str | None, after: str | None) -> None:
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        out.print(f"The data base is at {after or 'empty'} already.")
    else:
        out.print(f"The data base went from {before or 'empty'} to {after or 'empty'}.")
