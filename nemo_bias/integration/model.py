"""NeMo models and tokenizers without their chatter, and what they do not tell plainly."""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path
from typing import Any

from nemo_bias.command_line import quiet_libraries
from nemo_bias.messages import one_line


def quiet_nemo() -> None:
    """Keeps NeMo from logging anything but errors and what this package says; `transcribe` does not undo it."""
    quiet_libraries()
    from nemo.utils import logging as nemo_logging

    nemo_logging._logger.addFilter(_worth_telling)


def _worth_telling(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or "nemo_bias: " in record.getMessage()


def restore_model(path: str | Path, device: str | None = None) -> Any:
    """Restores a NeMo model in evaluation mode, without NeMo's notices.

    Args:
        path: of a `.nemo` file.
        device: where it shall be; None: on the GPU if there is one.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no checkpoint that this NeMo can restore.
    """
    with open(path, "rb"):  # so that the error is Python's own
        pass
    if not tarfile.is_tarfile(path):
        raise ValueError(f"{path} is no NeMo checkpoint, which is a tar archive; give a .nemo file")
    quiet_nemo()
    from nemo.collections.asr.models import ASRModel

    try:
        return ASRModel.restore_from(str(path), map_location=device).eval()
    except Exception as error:
        raise ValueError(f"{path}: NeMo cannot restore it ({type(error).__name__}: {one_line(error)[:200]})") from error


def restore_ctc_model(path: str | Path) -> Any:
    """Restores a NeMo CTC model of subword tokens on the CPU, without dither.

    Raises:
        OSError: the file cannot be read.
        TypeError: the model is of another kind.
        ValueError: the file is no checkpoint.
    """
    model = restore_model(path, "cpu")
    from nemo.collections.asr.models import EncDecCTCModelBPE

    if not isinstance(model, EncDecCTCModelBPE):
        raise TypeError(f"{path} is a {type(model).__name__}; give a CTC model of subword tokens (EncDecCTCModelBPE)")
    model.preprocessor.featurizer.dither = 0.0
    return model


def frame_seconds(model: Any) -> float:
    """Seconds of a frame of a model's log-probs."""
    return float(model.cfg.preprocessor.window_stride * model.encoder.subsampling_factor)


def best_hypotheses(transcribed: Any) -> list[Any]:
    """The hypotheses that `transcribe` returns: some of NeMo's models return the best, and all."""
    return transcribed[0] if isinstance(transcribed, tuple) else transcribed  # type: ignore[no-any-return]


def sentencepiece_tokenizer(path: str | Path) -> Any:
    """A NeMo tokenizer of a SentencePiece model, set up as NeMo's models do it.

    Raises:
        ValueError: the file is missing or no SentencePiece model.
    """
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    if not Path(path).is_file():
        raise ValueError(f"no tokenizer {path}")
    try:
        tokenizer = SentencePieceTokenizer(str(path))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is no SentencePiece model") from error
    vocabulary = {piece: k for k, piece in enumerate(tokenizer.ids_to_tokens(list(range(tokenizer.vocab_size))))}
    tokenizer.tokenizer.vocab_size = tokenizer.vocab_size  # NeMo's decoders ask the inner object for these two
    tokenizer.tokenizer.get_vocab = lambda: vocabulary
    return tokenizer
