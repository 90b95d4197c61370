"""Restoring a NeMo model for measurements, without its chatter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any


def quiet_nemo() -> None:
    """Keeps NeMo and pyctcdecode from logging anything but errors; `transcribe` does not undo it."""
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(nemo_logging.ERROR)
    nemo_logging._logger.addFilter(lambda record: record.levelno >= logging.ERROR)
    for name in ("nv_one_logger", "pyctcdecode"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in logging.root.manager.loggerDict:
        if name.startswith("nv_one_logger."):
            logging.getLogger(name).setLevel(logging.ERROR)


def restore_ctc_model(path: str | Path) -> Any:
    """Restores a NeMo CTC model of subword tokens on the CPU, without dither.

    Raises:
        TypeError: the model is of another kind.
    """
    from nemo.collections.asr.models import ASRModel, EncDecCTCModelBPE

    model = ASRModel.restore_from(str(path), map_location="cpu")
    if not isinstance(model, EncDecCTCModelBPE):
        raise TypeError(f"{path} is a {type(model).__name__}; give a CTC model of subword tokens (EncDecCTCModelBPE)")
    model.preprocessor.featurizer.dither = 0.0
    return model.eval()
