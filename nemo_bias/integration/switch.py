"""The switch that turns all biasing off."""

from __future__ import annotations

import os

OFF_SWITCH = "NEMO_BIAS"


def switched_off() -> bool:
    """Whether the environment variable NEMO_BIAS says `off` (or `0`, `false`, `no`)."""
    return os.environ.get(OFF_SWITCH, "").strip().lower() in ("off", "0", "false", "no")
