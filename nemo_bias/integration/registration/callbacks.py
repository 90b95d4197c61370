"""What Lightning finds by this package's entry point: the callbacks of every trainer."""

from __future__ import annotations

import sys
from typing import Any

from nemo_bias.integration.registration.patches import attempt


def callbacks() -> list[Any]:
    """The callback that trains adapters; it does nothing for other models. None in a program that has not loaded NeMo."""
    found: list[Any] = []

    def add() -> None:
        from nemo_bias.integration.training.adapter_training import AdapterTraining

        found.append(AdapterTraining())

    if "nemo.core" in sys.modules:
        attempt(add)
    return found
