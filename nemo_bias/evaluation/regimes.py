"""Regimes for `nemo_bias.evaluation.arc_sets`: log-probs from a file, checkpoints, and checkpoints with an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_bias.evaluation.arc_sets import Experiment, FixedRegime, Outputs, Regime
from nemo_bias.evaluation.log_probs_file import read_log_probs
from nemo_bias.evaluation.recogniser import cached_log_probs
from nemo_bias.integration.decoding.nemo_decoders import nemo_vocabulary
from nemo_bias.integration.model import restore_ctc_model, sentencepiece_tokenizer

CONTEXTUAL, PHONES = "contextual", "phones"  # parts of an adapter


@dataclass(frozen=True)
class RegimeFiles:
    """Where a regime's log-probs come from.

    Attributes:
        name: what tables call it.
        file: an .npz file of log-probs, or a .nemo checkpoint.
        adapter: of the checkpoint, if it is to have one.
        part: the only part of the adapter that counts, `contextual` or `phones`; None: all that it has.
        weight: how much its sets count in the fit.
    """

    name: str
    file: Path
    adapter: Path | None = None
    part: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Recordings:
    """What a checkpoint is run on.

    Attributes:
        manifest: the file.
        items: its lines.
        audio_dir: where relative audio paths start.
        folder: where log-probs and layers are kept.
    """

    manifest: Path
    items: Sequence[Mapping[str, Any]]
    audio_dir: Path
    folder: Path


def open_regime(files: RegimeFiles, recordings: Recordings, tokenizer: Path | None) -> Regime:
    """Opens a regime; a checkpoint encodes the manifest, unless the folder keeps that from an earlier run.

    Args:
        files: where it comes from.
        recordings: what it is run on.
        tokenizer: SentencePiece model, for log-probs from a file.

    Raises:
        OSError: a file cannot be read.
        TypeError: the checkpoint is of another kind.
        ValueError: a file does not fit.
    """
    if files.file.suffix == ".npz":
        if tokenizer is None:
            raise ValueError(f"{files.name}: log-probs from a file need --tokenizer")
        vocabulary = nemo_vocabulary(sentencepiece_tokenizer(tokenizer))
        log_probs = read_log_probs(files.file, len(recordings.items), vocabulary.size)
        return FixedRegime(files.name, files.weight, vocabulary, log_probs)
    if not files.file.is_file():
        raise ValueError(f"{files.name}: no checkpoint {files.file}")
    model = restore_ctc_model(files.file)
    if files.adapter is not None:
        return AdapterRegime(files, model, recordings)
    log_probs = cached_log_probs(files.file, model, recordings.items, recordings.audio_dir, recordings.folder)
    return FixedRegime(files.name, files.weight, nemo_vocabulary(model.tokenizer), log_probs)


class AdapterRegime(Regime):
    """A checkpoint with an adapter: the encoder runs once, the adapter for each list.

    Args:
        files: name, weight and adapter.
        model: the checkpoint's model.
        recordings: what it is run on.

    Raises:
        ValueError: the adapter does not fit, or audio cannot be read.
    """

    def __init__(self, files: RegimeFiles, model: Any, recordings: Recordings) -> None:
        from nemo_bias.integration.encoder.adapter_file import load_adapter
        from nemo_bias.integration.training.layer_cache import encode_manifest

        assert files.adapter is not None
        self.name, self.weight = files.name, files.weight
        self._model, self._adapter = model, load_adapter(model, files.adapter)
        self._cache = encode_manifest(model, self._adapter, recordings.manifest, 0, recordings.folder, recordings.audio_dir)
        self._items = recordings.items
        self._biases = self._adapter.contextual is not None and files.part != PHONES
        self._listens = self._adapter.phones is not None and files.part != CONTEXTUAL
        self.vocabulary = nemo_vocabulary(model.tokenizer)

    def outputs(self, experiment: Experiment) -> Outputs:
        """Log-probs biased by the list, those without bias, and those of phones, as far as the adapter has these parts."""
        from nemo_bias.evaluation.adapter_evaluation import EncodedSet

        encoded = EncodedSet(self._model, self._cache, self._items, experiment.numbers)
        plain, phones = encoded.log_probs(), encoded.phone_log_probs(self._adapter) if self._listens else None
        if not self._biases:
            return Outputs(plain, None, phones)
        return Outputs(encoded.log_probs(self._adapter, experiment.listed.phrases), plain, phones)
