"""Lets NeMo build classes of this package from configs: NeMo 3.0 refuses targets that are not on its lists."""

from __future__ import annotations

from types import ModuleType

OUR_PREFIX = "nemo_bias."


def apply(module: ModuleType) -> None:
    """Adds this package to the lists of NeMo's module `common`.

    Raises:
        RuntimeError: the module is not the one that this package knows.
    """
    for name in ("ALLOWED_TARGET_PREFIXES", "ALLOWED_ADAPTER_STRATEGY_PREFIXES"):
        prefixes = getattr(module, name, None)
        if not isinstance(prefixes, list):
            raise RuntimeError(f"nemo_bias does not know this NeMo: {name} is gone; install nemo_toolkit 3.0")
        if OUR_PREFIX not in prefixes:
            prefixes.append(OUR_PREFIX)
