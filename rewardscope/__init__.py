"""RewardScope for other people's programs: `from rewardscope import RewardScope`, which needs httpx alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewardscope.client import RemoteRun, RewardScope
    from rewardscope.errors import RecipeNotSucceeded, RunNotSucceeded, ServerRefused

__all__ = ["RecipeNotSucceeded", "RemoteRun", "RewardScope", "RunNotSucceeded", "ServerRefused"]


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported when first asked for: our own processes start without httpx."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rewardscope import client

    return getattr(client, name)
