"""Where the client's errors stood until release 0.2; import them from `rewardscope`."""

from rewardscope.errors import *  # noqa: F403
