"""Shapes and dtypes of the package's functions are checked at run time, in these tests only."""

from jaxtyping import install_import_hook

install_import_hook("rewardscope.engine.training", "beartype.beartype")
