"""Compiles the ragged loops with Numba, which is imported when the first of them is called.

That import takes longer than many a command of ours that cuts nothing, and all commands know the segmenters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., Any])


class _Loop:
    """A loop that is compiled once it is needed: by a call, or by another loop that calls it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    @functools.cached_property
    def dispatcher(self) -> Any:
        """What Numba makes of it."""
        from engine.segmentation.machine_code import dispatcher_of

        return dispatcher_of(self.function)

    @property
    def _numba_type_(self) -> Any:
        """How Numba, compiling a loop that calls this one, sees it."""
        return self.dispatcher._numba_type_

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)


def compiled(function: Loop) -> Loop:
    """The function as machine code, compiled at its first call for each kind of argument.

    It releases the GIL, so that a web server goes on while a run is cut. Division by zero gives infinity or
    NaN, as in NumPy. Call it with arrays and numbers, or with named tuples of these.
    """
    return cast(Loop, _Loop(function))
