"""Lets NeMo build classes of this package from configs: NeMo 3.0 refuses targets that are not on its lists."""

from __future__ import annotations

from types import ModuleType

from nemo_bias.integration.registration.patches import UnknownNeMoError, undo_with

OUR_PREFIX = "nemo_bias."


def apply(module: ModuleType) -> None:
    """Adds this package to the lists of NeMo's module `common`.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    for name in ("ALLOWED_TARGET_PREFIXES", "ALLOWED_ADAPTER_STRATEGY_PREFIXES"):
        prefixes = getattr(module, name, None)
        if not isinstance(prefixes, list):
            raise UnknownNeMoError(f"{name} is gone")
        if OUR_PREFIX not in prefixes:
            prefixes.append(OUR_PREFIX)
            undo_with(lambda prefixes=prefixes: prefixes.remove(OUR_PREFIX))  # type: ignore[misc]
