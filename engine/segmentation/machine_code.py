"""Machine code of a Python loop by Numba, which does without its cache on disk where there is none.

Numba refuses to decorate a function when no cache folder is writable (a read-only installation without a
home), and fails the call that compiles when the disk is full. Neither is a reason for a user's request to
fail: the loop is then compiled anew in every process.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache


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


def dispatcher_of(function: Callable[..., Any]) -> Any:
    """Numba's dispatcher of a function, with the cache above."""
    # Tests wrap every function in a check of its arguments, which is no loop.
    function = inspect.unwrap(function)
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    # Without any writable folder the dispatcher keeps the cache that remembers nothing.
    with contextlib.suppress(RuntimeError, OSError):
        dispatcher._cache = _ForgivingCache(function)
    return dispatcher
