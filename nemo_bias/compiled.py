"""Compiles hot loops with numba, and keeps the machine code on disk wherever that can be done.

numba looks for a folder in the environment variable NUMBA_CACHE_DIR, beside the module and in the user's cache folder. In a
container there may be none, or a disk that is full, or files of another user. Then the loops are compiled anew in each
process; they never fail for want of a cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

_LOG = logging.getLogger(__name__)
_told: list[str] = []  # why nothing is kept, once a process


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorates a function that numba shall compile when it is first called; it runs without the interpreter's lock.

    Args:
        function: of arrays and numbers.
        options: further ones of `numba.njit`.
    """
    if function is None:
        return lambda decorated: njit(decorated, **options)
    compiled = numba.njit(nogil=True, **options)(function)
    if isinstance(compiled, Dispatcher):  # not so with NUMBA_DISABLE_JIT
        try:
            compiled._cache = _Cache(function)  # type: ignore[attr-defined]
        except Exception as error:  # numba finds no folder
            _say_once(error)
    return compiled


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function, which may fail.

    numba compares the file of the function with that which was compiled. What it calls is compiled with it, so all files
    of the package that hold compiled code count.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, _newest_source()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature, None if there is none."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unreadable, or cut off
            _say_once(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the compiled function."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _say_once(error)


@lru_cache(maxsize=1)
def _newest_source() -> int:
    """When the newest file of the package that holds compiled code was changed, nanoseconds."""
    files = Path(__file__).parent.rglob("*.py")
    return max(file.stat().st_mtime_ns for file in files if b"import njit" in file.read_bytes())


def _say_once(error: Exception) -> None:
    if not _told:
        _told.append(str(error))
        _LOG.warning(
            "nemo_bias: compiled code cannot be kept on disk, so that each start compiles it anew, which takes a while; "
            "set NUMBA_CACHE_DIR to a folder that can be written (%s)",
            error,
        )
