"""The audio of a manifest: checked before hours of work, and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from nemo_bias.messages import one_line

SAMPLE_RATE = 16000  # Hz, which the recognisers take


class AudioError(ValueError):
    """An audio file that cannot be used; the message names it and the fix."""


def check_audio(items: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Whether all audio of a manifest can be read, told by the heads of the files.

    Args:
        items: lines of a manifest with `audio_filepath`.
        folder: where relative paths start.

    Raises:
        AudioError: a file is missing, is no audio, or has another sample rate.
    """
    for item in items:
        path = Path(folder, item["audio_filepath"])
        try:
            rate = soundfile.info(path).samplerate
        except (OSError, soundfile.LibsndfileError) as error:
            raise _unreadable(path, error) from error
        _check_rate(path, rate)


def read_audio(path: Path) -> NDArray[np.float32]:
    """The samples of an audio file, of several channels their mean.

    Raises:
        AudioError: it is missing, is no audio, or has another sample rate.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise _unreadable(path, error) from error
    _check_rate(path, rate)
    mono: NDArray[np.float32] = np.ascontiguousarray(samples.mean(axis=1))
    return mono


def _unreadable(path: Path, error: Exception) -> AudioError:
    if not path.is_file():
        return AudioError(f"no audio file {path}; check audio_filepath, or where relative paths start")
    return AudioError(f"{path} is no audio that can be read ({one_line(error)}); convert it to WAV or FLAC")


def _check_rate(path: Path, rate: int) -> None:
    if rate != SAMPLE_RATE:
        raise AudioError(f"{path} has {rate} Hz; convert it to {SAMPLE_RATE} Hz")
