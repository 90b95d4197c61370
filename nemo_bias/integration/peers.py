"""Other decoders for CTC log-probs, and ours, as systems that `nemo_bias.evaluation.comparison` can compare.

All run on one CPU thread. What is not named here keeps its default.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.decoder.search import BeamSearchConfig, BiasedBeamSearch
from nemo_bias.decoder.spotter import ArcScoring
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import Decoder, LogProbs, System, Weights
from nemo_bias.integration.strategy import vocabulary_of

BATCH_SIZE = 16  # utterances that NeMo decodes at a time
BEAM_SIZE = 8  # prefixes, for every beam search
SAMPLE_RATE = 16000  # Hz


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


class Greedy(System):
    """The best label of each frame."""

    name = "greedy"
    weights = ({},)

    def __init__(self, tokenizer: Any) -> None:
        self.vocabulary = nemo_vocabulary(tokenizer)

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Ignores the list."""
        return lambda log_probs: [greedy_text(each.argmax(axis=1), self.vocabulary) for each in log_probs]


class NemoTree(System):
    """NeMo's boosting tree in its `greedy_batch` or `beam_batch` decoding (`nemo.collections.asr.parts.context_biasing`).

    An empty list is decoded without a tree. The tree of `greedy_batch` relabels frames; it cannot insert what the model
    deleted. `beam_beta`, a bonus for each token, is 0 instead of NeMo's 1: that inserts words.

    Args:
        tokenizer: a NeMo tokenizer.
        strategy: ``greedy_batch`` or ``beam_batch``.
        weights: what to try; `alpha` is NeMo's `boosting_tree_alpha`.
    """

    def __init__(self, tokenizer: Any, strategy: str, weights: Sequence[Weights]) -> None:
        self.name = f"NeMo {strategy} + tree"
        self.weights = weights
        self._tokenizer = tokenizer
        self._strategy = strategy

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Builds the tree."""
        decoding = nemo_decoding(self._tokenizer, self._strategy, phrases, weights["alpha"])

        def decode(log_probs: Sequence[LogProbs]) -> list[str]:
            texts = [""] * len(log_probs)
            for chosen in batches_by_length([len(each) for each in log_probs], BATCH_SIZE):
                lengths = torch.tensor([len(log_probs[k]) for k in chosen])
                padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(log_probs[k]) for k in chosen], batch_first=True)
                hypotheses = decoding.ctc_decoder_predictions_tensor(padded, lengths)
                for k, hypothesis in zip(chosen, hypotheses, strict=True):
                    texts[k] = hypothesis.text
            return texts

        return decode


class WordSpotter(System):
    """NeMo's CTC-WS: finds phrases with a graph of their own and puts them into the greedy text.

    Its graph loses a phrase that is added after a longer one that starts with the same tokens; so the list is added from
    short to long.
    """

    name = "NeMo CTC-WS"
    weights = tuple(
        {"cb_weight": cb_weight, "ctc_ali_token_weight": token_weight}
        for token_weight in (0.0, 0.5, 1.0, 1.5)
        for cb_weight in (1.0, 2.0, 3.0, 4.0)
    )

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = nemo_vocabulary(tokenizer)

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Builds the graph."""
        from nemo.collections.asr.parts.context_biasing.context_biasing_utils import merge_alignment_with_ws_hyps
        from nemo.collections.asr.parts.context_biasing.context_graph_ctc import ContextGraphCTC
        from nemo.collections.asr.parts.context_biasing.ctc_based_word_spotter import run_word_spotter

        blank = self._vocabulary.blank
        graph = ContextGraphCTC(blank_id=blank)
        tokenized = [(phrase, [self._tokenizer.text_to_ids(phrase)]) for phrase in phrases]
        graph.add_to_graph(sorted(tokenized, key=lambda item: len(item[1][0])))
        model = SimpleNamespace(tokenizer=self._tokenizer)  # all that it uses of a model

        def decode_one(log_probs: LogProbs) -> str:
            spotted = run_word_spotter(log_probs, graph, model, blank_idx=blank, beam_threshold=5.0, **weights)
            labels = log_probs.argmax(axis=1)
            if not spotted:
                return greedy_text(labels, self._vocabulary)
            text: str = merge_alignment_with_ws_hyps(labels, model, spotted, blank_idx=blank)[0]
            return text

        return lambda log_probs: [decode_one(each) for each in log_probs]


class Pyctcdecode(System):
    """pyctcdecode with hotwords and no language model. It boosts the single words of phrases.

    Its time grows with the list, so it is tuned on part of the data, and not run on long lists.
    """

    name = "pyctcdecode"
    weights = tuple({"hotword_weight": weight} for weight in (2.0, 4.0, 8.0, 12.0, 16.0))
    tuning_utterances = 50

    def __init__(self, tokenizer: Any, most_phrases: int | None = 500) -> None:
        self._vocabulary = nemo_vocabulary(tokenizer)
        self.most_phrases = most_phrases

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Builds the decoder; hotwords are compiled at each call of its `decode`, which is part of its decode time."""
        from pyctcdecode import build_ctcdecoder

        pieces = [piece or f"<special{k}>" for k, piece in enumerate(self._vocabulary.pieces)]
        if "<special0>" in pieces:
            pieces[pieces.index("<special0>")] = "<unk>"
        pieces.insert(self._vocabulary.blank, "")
        decoder = build_ctcdecoder(pieces)
        hotwords = list(phrases)

        def decode_one(log_probs: LogProbs) -> str:
            text: str = decoder.decode(log_probs, beam_width=BEAM_SIZE, hotwords=hotwords, **weights)
            return text

        return lambda log_probs: [decode_one(each) for each in log_probs]


class NemoBias(System):
    """This package's decoder, with either of its methods, on one thread.

    Args:
        vocabulary: the model's tokens.
        method: ``arcs`` or ``adaptive``.
    """

    def __init__(self, vocabulary: Vocabulary, method: str = "arcs") -> None:
        self.name = "nemo_bias" if method == "arcs" else f"nemo_bias {method}"
        tried = {"arcs": ("weight", (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)), "adaptive": ("boost", (1.0, 1.5, 2.0, 2.5, 3.0, 4.0))}
        option, values = tried[method]
        self.weights = tuple({option: value} for value in values)
        self._vocabulary = vocabulary
        self._method = method

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Compiles the list."""
        scoring = ArcScoring(weight=weights.get("weight", 1.0))
        boost = weights.get("boost", BeamSearchConfig.boost)
        config = BeamSearchConfig(method=self._method, beam_size=BEAM_SIZE, arcs=scoring, boost=boost)
        search = BiasedBeamSearch(self._vocabulary, config, threads=1)
        entities = search.compile(phrases)
        return lambda log_probs: [search.decode(each[None], lists=entities)[0][0].text for each in log_probs]


def all_systems(tokenizer: Any, pyctcdecode_limit: int = 500) -> dict[str, System]:
    """Every system by the name that command lines use.

    Args:
        tokenizer: a NeMo tokenizer of subword tokens.
        pyctcdecode_limit: pyctcdecode is not run with more phrases than this.
    """
    alphas: tuple[Weights, ...] = tuple({"alpha": alpha} for alpha in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5))
    vocabulary = nemo_vocabulary(tokenizer)
    return {
        "greedy": Greedy(tokenizer),
        "greedy_batch": NemoTree(tokenizer, "greedy_batch", alphas),
        "beam_batch": NemoTree(tokenizer, "beam_batch", alphas),
        "ctc_ws": WordSpotter(tokenizer),
        "pyctcdecode": Pyctcdecode(tokenizer, pyctcdecode_limit),
        "nemo_bias": NemoBias(vocabulary, "arcs"),
        "nemo_bias_adaptive": NemoBias(vocabulary, "adaptive"),
    }


def nemo_decoding(tokenizer: Any, strategy: str, phrases: Sequence[str] = (), alpha: float = 0.0) -> Any:
    """A NeMo `CTCBPEDecoding` with a boosting tree, or without one if there are no phrases.

    Args:
        tokenizer: a NeMo tokenizer.
        strategy: ``greedy_batch`` or ``beam_batch``.
        phrases: the tree's phrases.
        alpha: its weight, `boosting_tree_alpha`.
    """
    from nemo.collections.asr.parts.submodules.ctc_decoding import CTCBPEDecoding, CTCBPEDecodingConfig

    config = OmegaConf.structured(CTCBPEDecodingConfig)
    config.strategy = strategy
    config.beam.beam_size = BEAM_SIZE
    config.beam.beam_beta = 0.0
    config.beam.return_best_hypothesis = True
    options = config.greedy if strategy == "greedy_batch" else config.beam
    options.boosting_tree_alpha = alpha
    options.boosting_tree.key_phrases_list = list(phrases) or None
    return CTCBPEDecoding(config, tokenizer)


def nemo_vocabulary(tokenizer: Any) -> Vocabulary:
    """The tokens of a NeMo subword tokenizer, as our decoder sees them."""
    return vocabulary_of(nemo_decoding(tokenizer, "greedy_batch"))


def greedy_text(labels: NDArray[np.integer], vocabulary: Vocabulary) -> str:
    """The text of a label for each frame [T]: repeated labels and blanks are dropped."""
    changed = np.ones(len(labels), np.bool_)
    changed[1:] = labels[1:] != labels[:-1]
    return vocabulary.text(labels[changed & (labels != vocabulary.blank)].tolist())


def batches_by_length(lengths: Sequence[float], size: int) -> Iterator[list[int]]:
    """Positions in batches of at most `size`, longest first, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    for start in range(0, len(order), size):
        yield order[start : start + size]


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


def log_probs_of(model: Any, items: Sequence[Mapping[str, Any]], audio_dir: str | Path) -> list[LogProbs]:
    """Runs a model over the utterances of a manifest; shows a progress bar.

    Args:
        model: of `restore_ctc_model`.
        items: lines of a manifest with `audio_filepath` and `duration` (seconds).
        audio_dir: where the relative paths start.

    Returns:
        Log-probs [T, V] of each item, in order.

    Raises:
        ValueError: an audio file does not have 16,000 samples a second.
    """
    log_probs: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(items)
    with torch.inference_mode(), tqdm(total=len(items), desc="log-probs", unit="utt") as bar:
        for chosen in batches_by_length([item["duration"] for item in items], BATCH_SIZE):
            audio = [torch.from_numpy(_read_audio(Path(audio_dir) / items[k]["audio_filepath"])) for k in chosen]
            signal = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
            output, lengths, _ = model(input_signal=signal, input_signal_length=torch.tensor([len(each) for each in audio]))
            for k, each, length in zip(chosen, output, lengths.tolist(), strict=True):
                log_probs[k] = each[:length].float().numpy().copy()
            bar.update(len(chosen))
    return log_probs


def _read_audio(path: Path) -> NDArray[np.float32]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise ValueError(f"{path} has {rate} samples a second; convert it to {SAMPLE_RATE}")
    mono: NDArray[np.float32] = samples.mean(axis=1)
    return mono


def cached_log_probs(
    model_file: str | Path, model: Any, items: Sequence[Mapping[str, Any]], audio_dir: str | Path, folder: str | Path
) -> list[LogProbs]:
    """As `log_probs_of`, but kept in a file of `folder` named after the contents of the model file and the items."""
    names = json.dumps([item["audio_filepath"] for item in items])
    key = hashlib.sha256(f"{file_hash(model_file)} {Path(audio_dir).resolve()} {names}".encode()).hexdigest()[:16]
    file = Path(folder) / f"log_probs_{key}.npz"
    if not file.exists():
        log_probs = log_probs_of(model, items, audio_dir)
        partial = file.with_suffix(".part.npz")
        np.savez(partial, log_probs=np.concatenate(log_probs), lengths=[len(each) for each in log_probs])
        partial.rename(file)
    with np.load(file) as stored:
        ends = np.cumsum(stored["lengths"])
        return np.split(stored["log_probs"], ends[:-1])


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
