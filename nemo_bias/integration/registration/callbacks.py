"""What Lightning finds by this package's entry point: the callbacks of every trainer."""

from __future__ import annotations

from typing import Any


def callbacks() -> list[Any]:
    """The callback that trains adapters; it does nothing for other models. None in a program that has not loaded NeMo."""
    import sys

    if "nemo.core" not in sys.modules:
        return []
    from nemo_bias.integration.training.adapter_training import AdapterTraining

    return [AdapterTraining()]
