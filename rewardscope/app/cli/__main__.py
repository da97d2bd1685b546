"""`python -m rewardscope.app.cli` is the command `rewardscope`."""

from rewardscope.app.cli import main

main()
