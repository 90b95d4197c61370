"""What the scripts have in common: they end in one line that says what is wrong, and NeMo's notices stay away."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nemo_bias.messages import one_line

UNUSABLE, INTERRUPTED = 2, 130  # exit codes


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorates a script's main function.

    An error ends the script in one line on standard error, with exit code 2; with Python's option ``-X dev`` its traceback
    is shown. What the libraries below NeMo log is not shown, unless it is an error.

    Args:
        main: returns the exit code, or None for 0.
    """
    name = Path(inspect.getfile(main)).name

    @functools.wraps(main)
    def run(*arguments: Any) -> int:
        quiet_libraries()
        try:
            return main(*arguments) or 0
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            if sys.flags.dev_mode:
                raise
            print(f"{name}: {one_line(error)}", file=sys.stderr)
            return UNUSABLE
        except KeyboardInterrupt as error:  # with what a script adds
            print("; ".join([f"{name}: interrupted", *map(str, error.args)]), file=sys.stderr)
            return INTERRUPTED

    return run


def quiet_libraries() -> None:
    """Keeps the libraries below NeMo from telling at each start how they are set up. Call it before NeMo is imported."""
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("nv_one_logger", "lightning.pytorch", "pyctcdecode"):
        logging.getLogger(name).setLevel(logging.ERROR)
