"""Other decoders for CTC log-probs, and ours, as systems that `nemo_bias.evaluation.comparison` can compare.

All run on one CPU thread. What is not named here keeps its default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.lm_file import read_lm
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import Decoder, LogProbs, System, Weights
from nemo_bias.evaluation.recogniser import batches_by_length, greedy_text, greedy_texts
from nemo_bias.integration.decoding.nemo_decoders import nemo_decoding, nemo_vocabulary, nemo_word_spotter

BATCH_SIZE = 16  # utterances that NeMo decodes at a time
BEAM_SIZE = 8  # prefixes, for every beam search


class Greedy(System):
    """The best label of each frame."""

    name = "greedy"
    weights = ({},)

    def __init__(self, tokenizer: Any) -> None:
        self.vocabulary = nemo_vocabulary(tokenizer)

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Ignores the list."""
        return lambda log_probs: greedy_texts(log_probs, self.vocabulary)


class NemoTree(System):
    """NeMo's boosting tree in its `greedy_batch` or `beam_batch` decoding (`nemo.collections.asr.parts.context_biasing`).

    An empty list is decoded without a tree. The tree of `greedy_batch` relabels frames; it cannot insert what the model
    deleted.

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
        decoding = nemo_decoding(self._tokenizer, self._strategy, phrases, weights["alpha"], BEAM_SIZE)

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
    """NeMo's CTC-WS: finds phrases with a graph of their own and puts them into the greedy text."""

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
        spotted_text = nemo_word_spotter(self._tokenizer, phrases, self._vocabulary.blank)

        def decode_one(log_probs: LogProbs) -> str:
            text = spotted_text(log_probs, **weights)
            return greedy_text(log_probs.argmax(axis=1), self._vocabulary) if text is None else text

        return lambda log_probs: [decode_one(each) for each in log_probs]


class Pyctcdecode(System):
    """pyctcdecode with hotwords. It boosts the single words of phrases.

    Its time grows with the list, so it is tuned on part of the data, and not run on long lists.

    Args:
        tokenizer: a NeMo tokenizer of subword tokens.
        most_phrases: it is not run with more phrases than this.
        lm_file: word language model in the recogniser's spelling; None: none.
    """

    package = "pyctcdecode"
    tuning_utterances = 50

    def __init__(self, tokenizer: Any, most_phrases: int | None = 500, lm_file: str | None = None) -> None:
        self.name = "pyctcdecode" if lm_file is None else "pyctcdecode + LM"
        self.changes_words = lm_file is not None
        self.weights: Sequence[Weights] = tuple({"hotword_weight": weight} for weight in (2.0, 4.0, 8.0, 12.0, 16.0))
        if lm_file is not None:
            self.weights = tuple(
                {"hotword_weight": weight, "alpha": alpha, "beta": beta}
                for weight in (4.0, 8.0, 12.0)
                for alpha in (0.2, 0.3, 0.5)
                for beta in (0.5, 1.5)
            )
        self._vocabulary = nemo_vocabulary(tokenizer)
        self._lm_file = lm_file
        self.most_phrases = most_phrases

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Builds the decoder; hotwords are compiled at each call of its `decode`, which is part of its decode time."""
        from pyctcdecode import build_ctcdecoder

        pieces = [piece or f"<special{k}>" for k, piece in enumerate(self._vocabulary.pieces)]
        if "<special0>" in pieces:
            pieces[pieces.index("<special0>")] = "<unk>"
        pieces.insert(self._vocabulary.blank, "")
        scales = dict(weights)
        boost = {"hotword_weight": scales.pop("hotword_weight")}
        words = None if self._lm_file is None else read_lm(self._lm_file).words
        decoder = build_ctcdecoder(pieces, self._lm_file, words, **scales)
        hotwords = list(phrases)

        def decode_one(log_probs: LogProbs) -> str:
            text: str = decoder.decode(log_probs, beam_width=BEAM_SIZE, hotwords=hotwords, **boost)
            return text

        return lambda log_probs: [decode_one(each) for each in log_probs]


class NemoBias(System):
    """This package's decoder, with either of its methods, on one thread. `arcs` runs at its defaults.

    Args:
        vocabulary: the model's tokens.
        method: ``arcs`` or ``adaptive``.
        lm_file: word language model; None: none.
    """

    def __init__(self, vocabulary: Vocabulary, method: str = "arcs", lm_file: str | None = None) -> None:
        self.name = ("nemo_bias" if method == "arcs" else f"nemo_bias {method}") + (" + LM" if lm_file else "")
        self.changes_words = lm_file is not None
        self._lm_file = lm_file
        boosts: tuple[Weights, ...] = tuple({"boost": boost} for boost in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0))
        self.weights = boosts if method == "adaptive" else ({},)
        self._vocabulary = vocabulary
        self._method = method

    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Compiles the list."""
        boost = weights.get("boost", DecodingOptions().boost)
        options = DecodingOptions(method=self._method, beam_size=BEAM_SIZE, boost=boost, lm_file=self._lm_file)
        search = BiasedBeamSearch(self._vocabulary, options, threads=1)
        entities = search.compile(phrases)
        return lambda log_probs: [search.decode(each[None], lists=entities)[0][0].text for each in log_probs]


def all_systems(tokenizer: Any, pyctcdecode_limit: int = 500, lm_file: str | None = None) -> dict[str, System]:
    """Every system by the name that command lines use.

    Args:
        tokenizer: a NeMo tokenizer of subword tokens.
        pyctcdecode_limit: pyctcdecode is not run with more phrases than this.
        lm_file: word language model, for two more systems; None: these are left out.
    """
    alphas: tuple[Weights, ...] = tuple({"alpha": alpha} for alpha in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5))
    vocabulary = nemo_vocabulary(tokenizer)
    systems: dict[str, System] = {
        "greedy": Greedy(tokenizer),
        "greedy_batch": NemoTree(tokenizer, "greedy_batch", alphas),
        "beam_batch": NemoTree(tokenizer, "beam_batch", alphas),
        "ctc_ws": WordSpotter(tokenizer),
        "pyctcdecode": Pyctcdecode(tokenizer, pyctcdecode_limit),
        "nemo_bias": NemoBias(vocabulary, "arcs"),
        "nemo_bias_adaptive": NemoBias(vocabulary, "adaptive"),
    }
    if lm_file is not None:
        systems["pyctcdecode_lm"] = Pyctcdecode(tokenizer, pyctcdecode_limit, lm_file)
        systems["nemo_bias_lm"] = NemoBias(vocabulary, "arcs", lm_file)
    return systems
