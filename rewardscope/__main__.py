"""`python -m rewardscope` is the command `rewardscope`."""

from __future__ import annotations

import sys

from rewardscope.launcher import enter


def main() -> None:
    """Runs the command line, or says what it needs where only the library is installed."""
    enter()
    try:
        from app.cli import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("app", "engine"):
            raise
        sys.exit(
            f"The command needs `{error.name}`, which the client library does without: "
            "pip install 'rewardscope[server]' for pages and API, 'rewardscope[all]' for models too."
        )
    run()


if __name__ == "__main__":
    main()
