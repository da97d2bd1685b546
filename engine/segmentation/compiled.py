"""Compiles the ragged loops with Numba, and does without its cache on disk where there is none.

Numba refuses to decorate a function when no cache folder is writable (a read-only installation without a
home), and fails the call that compiles when the disk is full. Neither is a reason for a user's request to
fail: the loop is then compiled anew in every process.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Loop = TypeVar("Loop", bound=Callable[..., Any])


class _ForgivingCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, for which a disk that is full, read-only or damaged is an empty one."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        # A damaged index can raise nearly anything while it is unpickled; compiling is always possible.
        except Exception:
            return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(OSError):
            try:
                super().save_overload(*arguments)
            except OSError:
                raise
            # An index that an earlier release wrote may name classes that are gone: it is begun anew.
            except Exception:
                self.flush()
                super().save_overload(*arguments)


def compiled(function: Loop) -> Loop:
    """The function as machine code, compiled at its first call for each kind of argument.

    It releases the GIL, so that a web server goes on while a run is cut. Division by zero gives infinity or
    NaN, as in NumPy. Call it with arrays and numbers.
    """
    # Tests wrap every function in a check of its arguments, which is no loop.
    function = inspect.unwrap(function)
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    # Without any writable folder the dispatcher keeps the cache that remembers nothing.
    with contextlib.suppress(RuntimeError, OSError):
        dispatcher._cache = _ForgivingCache(function)
    return cast(Loop, dispatcher)
