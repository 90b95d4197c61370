"""Small vocabularies and log-probs that several tests use."""

from __future__ import annotations

import dataclasses
import itertools
import json
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from nemo_bias.decoder.probability import PARTS, WEIGHT_SETS
from nemo_bias.decoder.vocabulary import Vocabulary, character_vocabulary

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo"
MARKS = ("'", ",", ".", "?", '"', "-", "(", "▁(", "▁'", "▁-")
CAPITALS = (*"ABENORST", "▁A", "▁B", "▁T", "▁Bo", "▁N")
UNSPACED_SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "THAI"}

# A toy subword vocabulary that can write every word over a, b, e, n, o, r, s, t in several ways.
PIECES = ("▁", "a", "b", "e", "n", "o", "r", "s", "t", "▁a", "▁b", "▁n", "▁t", "ar", "on", "▁to", "er", "▁bo", "st", "▁no")


@pytest.fixture(scope="module")
def one_thread():
    """The models are small: more threads only wait for each other, and sums in another order would differ a little."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def subwords() -> Vocabulary:
    return Vocabulary(PIECES, len(PIECES))


@pytest.fixture
def characters() -> Vocabulary:
    return character_vocabulary([" ", *"abenorst"])


@pytest.fixture
def marked() -> Vocabulary:
    """The toy subwords and punctuation."""
    return Vocabulary((*PIECES, *MARKS), len(PIECES) + len(MARKS))


@pytest.fixture
def cased() -> Vocabulary:
    """The toy subwords, punctuation and capital letters."""
    pieces = (*PIECES, *MARKS, *CAPITALS)
    return Vocabulary(pieces, len(pieces))


def restored_demo():
    """The bundled checkpoint, without the noise that NeMo adds to audio."""
    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    return model


def set_anew(model, entities=None, **options) -> None:
    """`set_entities` with all other options at their defaults, whatever the model had before."""
    from nemo_bias import set_entities
    from nemo_bias.integration.decoding.config import BiasedBeamConfig

    defaults = {k: v for k, v in dataclasses.asdict(BiasedBeamConfig()).items() if k not in ("entity_file", "entities")}
    set_entities(model, entities, **{**defaults, **options})


def weights_file(path, risk: dict[str, float] | None = None, **terms: float) -> str:
    """A file of evidence weights that are the same for all recognisers, with and without frequencies and pronunciations.

    Unless its weights are given, nothing is at risk where other words stand, so that `min_probability` itself is asked for.
    """
    weights = {part: terms if part in ("unsure", "sure") else {} for part in PARTS}
    weights["risk"] = risk or {"constant": -30}
    path.write_text(json.dumps(dict.fromkeys(WEIGHT_SETS.values(), weights)))
    return str(path)


def random_log_probs(rng: np.random.Generator, frames: int, width: int, peak: float = 1.0) -> np.ndarray:
    """[T, V] log-probs; the higher `peak`, the surer each frame."""
    logits = peak * rng.standard_normal((frames, width))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def collapse(path, blank):
    """CTC's collapse of a frame path."""
    return tuple(int(p) for p, _ in itertools.groupby(path) if p != blank)


def is_boundary(before: str, after: str) -> bool:
    """Whether words may end and begin between two strings of piece characters: the rules of `vocabulary`, by letters."""
    if after and unicodedata.category(after[0])[0] == "M":
        return False
    if not before or not after:
        return True
    last, first = before[-1], after[0]
    if "▁" in (last, first) or first == "'":
        return True
    if last == "'":
        return before[-2:-1] == "▁" or _stands_alone(first)  # a quotation mark
    return any(_stands_alone(c) for c in (last, first))


def _stands_alone(character: str) -> bool:
    category = unicodedata.category(character)[0]
    return category in "PS" or (category != "M" and unicodedata.name(character).split()[0] in UNSPACED_SCRIPTS)


def greedy_tokens(log_probs: np.ndarray, blank: int) -> tuple[int, ...]:
    return collapse(log_probs.argmax(axis=1), blank)


def prefix_probabilities(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """Log-probability of every token sequence, by summing over every path."""
    totals: dict[tuple[int, ...], float] = defaultdict(lambda: -np.inf)
    frames, width = log_probs.shape
    for path in itertools.product(range(width), repeat=frames):
        tokens = collapse(path, blank)
        totals[tokens] = np.logaddexp(totals[tokens], sum(log_probs[t, p] for t, p in enumerate(path)))
    return totals


def speak(vocabulary: Vocabulary, pieces: list[str], heard: dict[int, tuple[str, float]] | None = None, sure: float = 0.9):
    """Log-probs of an utterance: each piece takes a frame, a blank follows it.

    `heard` gives, for the index of a piece, another piece that the model hears instead, and its probability; the piece
    itself then has a tenth of what is left.
    """
    width = vocabulary.size
    rows = []
    for k, piece in enumerate(pieces):
        row = np.full(width, (1 - sure) / (width - 1))
        if heard and k in heard:
            other, probability = heard[k]
            row[:] = 0.9 * (1 - probability) / (width - 2)
            row[vocabulary.pieces.index(other)] = probability
            row[vocabulary.pieces.index(piece)] = 0.1 * (1 - probability)
        else:
            row[vocabulary.pieces.index(piece)] = sure
        blank = np.full(width, 1e-4 / (width - 1))
        blank[vocabulary.blank] = 1 - 1e-4
        rows += [row, blank]
    return np.log(np.array(rows)).astype(np.float32)


@pytest.fixture
def nemo_log():
    """What NeMo's logger has got, ``LEVEL message`` each."""
    from nemo.utils import logging

    messages = []

    def record(entry):
        messages.append(f"{entry.levelname} {entry.getMessage()}")
        return True

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    logging._logger.addFilter(record)
    yield messages
    logging._logger.removeFilter(record)
    logging.set_verbosity(verbosity)
