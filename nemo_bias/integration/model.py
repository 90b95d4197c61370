"""NeMo models and tokenizers for measurements, without their chatter."""

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
