"""Changes NeMo's classes, and back: where anything is not as this package knows it, everything is undone and it stays out.

Standard library only, and nothing here raises while NeMo, Hydra or Lightning start.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

_LOG = logging.getLogger(__name__)
_undo: list[Callable[[], None]] = []
_out: list[UnknownNeMoError] = []  # why this package stays out, if it does


class UnknownNeMoError(RuntimeError):
    """NeMo is not as this package knows it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"nemo_bias does not know this NeMo: {what}; install nemo_toolkit 3.0")


def wrap_method(owner: type | ModuleType, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces a method that a class defines itself, or a function of a module, by what `wrapper` makes of it; once.

    Raises:
        UnknownNeMoError: there is no such method, or it has not the parameters that its replacement has.
    """
    original = vars(owner).get(name)
    if original is None:
        raise UnknownNeMoError(f"{owner.__name__}.{name} is gone")
    if hasattr(original, "nemo_bias"):
        return
    replacement = wrapper(original)
    if not _same_parameters(original, replacement):
        raise UnknownNeMoError(f"{owner.__name__}.{name} has other parameters")
    wrapped = functools.wraps(original)(replacement)
    wrapped.nemo_bias = True  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)
    undo_with(lambda: setattr(owner, name, original))


def _same_parameters(original: Callable[..., Any], replacement: Callable[..., Any]) -> bool:
    """Whether the replacement's parameters are the original's, or, where it passes on all others, the first ones of them."""
    parameters = inspect.signature(replacement).parameters.values()
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    present = list(inspect.signature(original).parameters)
    return known == (present if len(known) == len(parameters) else present[: len(known)])


def undo_with(action: Callable[[], None]) -> None:
    """Remembers how a change of NeMo is undone."""
    _undo.append(action)


def attempt(action: Callable[[], None]) -> None:
    """Does something while NeMo, Hydra or Lightning start; after an error this package stays out, and the log says why."""
    if _out:
        return
    try:
        action()
    except Exception as error:
        reason = error if isinstance(error, UnknownNeMoError) else UnknownNeMoError(f"{type(error).__name__}: {error}")
        _out.append(reason)
        while _undo:
            _undo.pop()()
        _LOG.warning("%s. Until then it stays out, and no entity list is used.", reason)


def check_registered() -> None:
    """Refuses to go on if this package stays out.

    Raises:
        UnknownNeMoError: for the reason that was logged at the start.
    """
    if _out:
        raise _out[0]
