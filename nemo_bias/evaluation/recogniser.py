"""The log-probs that a recogniser gives for a manifest, kept on disk, and their greedy text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.decoder.transcript import collapsed
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.audio import read_audio
from nemo_bias.evaluation.comparison import LogProbs
from nemo_bias.evaluation.log_probs_file import read_log_probs, write_log_probs

BATCH_SIZE = 16  # utterances that the model encodes at a time


def log_probs_of(model: Any, items: Sequence[Mapping[str, Any]], audio_dir: str | Path) -> list[LogProbs]:
    """Runs a model over the utterances of a manifest; shows a progress bar.

    Args:
        model: of `restore_ctc_model`.
        items: lines of a manifest with `audio_filepath` and `duration` (seconds).
        audio_dir: where the relative paths start.

    Returns:
        Log-probs [T, V] of each item, in order.

    Raises:
        AudioError: an audio file is missing, is no audio, or has another sample rate.
    """
    log_probs: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(items)
    with torch.inference_mode(), tqdm(total=len(items), desc="log-probs", unit="utt") as bar:
        for chosen in batches_by_length([item["duration"] for item in items], BATCH_SIZE):
            audio = [torch.from_numpy(read_audio(Path(audio_dir) / items[k]["audio_filepath"])) for k in chosen]
            signal = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
            output, lengths, _ = model(input_signal=signal, input_signal_length=torch.tensor([len(each) for each in audio]))
            for k, each, length in zip(chosen, output, lengths.tolist(), strict=True):
                log_probs[k] = each[:length].float().numpy().copy()
            bar.update(len(chosen))
    return log_probs


def cached_log_probs(
    model_file: str | Path, model: Any, items: Sequence[Mapping[str, Any]], audio_dir: str | Path, folder: str | Path
) -> list[LogProbs]:
    """As `log_probs_of`, but kept in a file of `folder` named after the contents of the model file and the items."""
    names = json.dumps([item["audio_filepath"] for item in items])
    key = hashlib.sha256(f"{file_hash(model_file)} {Path(audio_dir).resolve()} {names}".encode()).hexdigest()[:16]
    file = Path(folder) / f"{key}.log_probs.npz"
    if not file.exists():
        log_probs = log_probs_of(model, items, audio_dir)
        partial = file.with_suffix(".part.npz")
        write_log_probs(partial, log_probs)
        partial.rename(file)
    return read_log_probs(file, len(items))


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def batches_by_length(lengths: Sequence[float], size: int) -> Iterator[list[int]]:
    """Positions in batches of at most `size`, longest first, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def greedy_text(labels: NDArray[np.integer], vocabulary: Vocabulary) -> str:
    """The text of a label for each frame [T]: repeated labels and blanks are dropped."""
    return vocabulary.text(collapsed(labels, vocabulary.blank))


def greedy_texts(log_probs: Sequence[LogProbs], vocabulary: Vocabulary) -> list[str]:
    """The text of the best label of each frame, for each utterance."""
    return [greedy_text(each.argmax(axis=1), vocabulary) for each in log_probs]
