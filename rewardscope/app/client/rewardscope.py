"""Where the client stood until release 0.2; import it as `from rewardscope import RewardScope`."""

from __future__ import annotations

import warnings

from rewardscope.client import *  # noqa: F403

warnings.warn(
    "rewardscope.app.client.rewardscope moved: `from rewardscope import RewardScope`.",
    DeprecationWarning,
    stacklevel=2,
)
