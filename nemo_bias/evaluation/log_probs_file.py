"""Log-probs of any recogniser in an .npz file.

The file has `offsets` [utterances + 1], the first frame of each utterance and at last the number of all frames, and either

- `log_probs` [frames, V], floats: natural logarithms, or
- `nats_tenths` [frames, V], uint8: minus ten times the natural logarithms, a quarter of the size.

The blank is the last of the V columns. Frames need not be normalised: log-softmax is applied when they are read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_bias.evaluation.comparison import LogProbs


def write_log_probs(path: str | Path, log_probs: Sequence[LogProbs]) -> None:
    """Writes the log-probs [T, V] of some utterances, at least one."""
    offsets = np.cumsum([0, *(len(each) for each in log_probs)])
    np.savez(path, offsets=offsets, log_probs=np.concatenate(log_probs))


def read_log_probs(path: str | Path, utterances: int, width: int | None = None) -> list[LogProbs]:
    """Reads log-probs, one [T, V] for each utterance, in order.

    Args:
        path: the .npz file.
        utterances: lines of the manifest that it belongs to.
        width: V, the tokens and the blank; None: not known.

    Raises:
        ValueError: the file is of another kind, or the numbers do not fit.
        OSError: the file cannot be read.
    """
    arrays = _arrays(path)
    tenths = arrays.get("nats_tenths")
    offsets, frames = arrays["offsets"], arrays["log_probs"] if tenths is None else tenths
    if frames.ndim != 2 or (tenths is not None and tenths.dtype != np.uint8):
        wanted = "floats [frames, V]" if tenths is None else "uint8 [frames, V]"
        raise ValueError(f"{path}: log-probs are {frames.dtype} {list(frames.shape)}; make them {wanted}")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"{path}: offsets are not rising integers")
    if len(offsets) != utterances + 1:
        raise ValueError(f"{path}: {len(offsets) - 1} utterances, but the manifest has {utterances}")
    if offsets[0] != 0 or offsets[-1] != len(frames):
        raise ValueError(f"{path}: offsets go from {offsets[0]} to {offsets[-1]}; there are {len(frames)} frames")
    if width is not None and frames.shape[1] != width:
        raise ValueError(f"{path}: {frames.shape[1]} columns, but the tokenizer's tokens and the blank make {width}")
    log_probs: LogProbs = frames.astype(np.float32)
    if tenths is not None:
        log_probs /= np.float32(-10)
    return np.split(_log_softmax(log_probs), offsets[1:-1])


def _arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in ("offsets", "log_probs", "nats_tenths") if name in stored}
    except (EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:  # what numpy raises for files of other kinds
        raise ValueError(f"{path}: not an .npz file of arrays") from error
    if "offsets" not in arrays or len(arrays) != 2:
        raise ValueError(f"{path}: holds {' and '.join(arrays) or 'neither'}; give offsets and log_probs or nats_tenths")
    return arrays


def _log_softmax(values: LogProbs) -> LogProbs:
    shifted = values - values.max(axis=1, keepdims=True, initial=-np.inf)
    normalised: LogProbs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
