"""Neural grapheme-to-phone conversion: the model of the g2p_en package, run on many words at once.

The model is an encoder-decoder of two GRUs, trained on CMUdict (Park & Kim, https://github.com/Kyubyong/g2p). Only its
weights are read: importing g2p_en would start a download.
"""

from __future__ import annotations

import hashlib
import importlib.util
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.pronunciation.phones import PHONE_IDS, PHONES, Phones

_LETTERS = {letter: number for number, letter in enumerate(string.ascii_lowercase, 3)}  # after <pad>, <unk>, </s>
_UNKNOWN, _END_OF_WORD = 1, 2
_VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
_OUTPUTS = [  # what the decoder chooses from
    *("<pad>", "<unk>", "<s>", "</s>"),
    *sorted(
        [phone for phone in PHONES if phone not in _VOWELS] + [v + stress for v in _VOWELS for stress in "012"] + ["UW"]
    ),
]
_START, _END = 2, 3
_NO_PHONE, _END_GROUP = len(PHONES), len(PHONES) + 1  # groups of outputs: each phone with any stress, then these
_GROUP = np.array(
    [_NO_PHONE, _NO_PHONE, _NO_PHONE, _END_GROUP, *(PHONE_IDS[output.rstrip("012")] for output in _OUTPUTS[4:])]
)
_IN_GROUP = (_GROUP[:, None] == np.arange(len(PHONES) + 2)).astype(np.float32)  # [outputs, groups]
_TINY = np.float32(1e-30)
_MOST_STEPS = 20  # phones of a word, as in g2p_en
_BATCH = 512  # words
_REVISION = 1  # counts changes of this module that change its readings

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Reading(NamedTuple):
    """Phones and their probability."""

    phones: Phones
    probability: float


@dataclass(frozen=True)
class _Gru:
    """A gated recurrent unit over symbols; gates in the order reset, update, new.

    Attributes:
        of_symbol: what each symbol adds to the gates [symbols, 3 * H].
        w_hh: weights of the state [3 * H, H].
        b_hh: their biases [3 * H].
    """

    of_symbol: Floats
    w_hh: Floats
    b_hh: Floats

    def step(self, symbols: Integers, state: Floats) -> Floats:
        """The state [B, H] after a symbol each [B]."""
        size = state.shape[1]
        of_input: Floats = self.of_symbol[symbols]
        of_state: Floats = state @ self.w_hh.T + self.b_hh
        gates: Floats = 1 / (1 + np.exp(-(of_input[:, : 2 * size] + of_state[:, : 2 * size])))
        reset, update = gates[:, :size], gates[:, size:]
        new = np.tanh(of_input[:, 2 * size :] + reset * of_state[:, 2 * size :])
        after: Floats = (1 - update) * new + update * state
        return after


@dataclass(frozen=True)
class _Weights:
    """The model: what is read from its file."""

    encoder: _Gru
    decoder: _Gru
    output: Floats  # [outputs, H]
    output_bias: Floats  # [outputs]


@dataclass
class _Decoded:
    """Outputs [B, steps] of a batch, and where each word could best have left them.

    Attributes:
        outputs: places in _OUTPUTS; _END after the last phone.
        log_probability: of the outputs [B], with any stress.
        other_step: the step [B] of the most probable phone, or end of the word, that was not taken.
        other_output: that output [B].
    """

    outputs: Integers
    log_probability: NDArray[np.float64]
    other_step: Integers
    other_output: Integers

    def phones(self, row: int) -> Phones:
        groups = _GROUP[self.outputs[row]]
        return tuple(groups[groups < _NO_PHONE].tolist())


class NeuralG2P:
    """The model; its weights are read at first use.

    Args:
        path: of the weights; None: those of the installed g2p_en.

    Raises:
        ModuleNotFoundError: if g2p_en is not installed.
        FileNotFoundError: if it has other files than version 2.1.0.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _installed_weights()

    @cached_property
    def version(self) -> str:
        """Names the weights and the way to use them."""
        return f"{hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]}-{_REVISION}"

    @cached_property
    def _weights(self) -> _Weights:
        with np.load(self.path) as file:

            def gru(name: str) -> _Gru:
                of_symbol = file[f"{name}_emb"] @ file[f"{name}_w_ih"].T + file[f"{name}_b_ih"]
                return _Gru(of_symbol, file[f"{name}_w_hh"], file[f"{name}_b_hh"])

            return _Weights(gru("enc"), gru("dec"), file["fc_w"], file["fc_b"])

    def __call__(self, words: Sequence[str]) -> list[tuple[Reading, ...]]:
        """The best reading of each word and, where there is one, a second.

        One is the greedy output. The other leaves it once, where another phone has the highest probability, and goes on
        greedily. Probabilities are sums over stress.

        Args:
            words: of letters a-z.

        Returns:
            One or two readings of each word, the more probable first; none where the model ends at once.
        """
        readings: list[tuple[Reading, ...]] = [()] * len(words)
        by_length = sorted(range(len(words)), key=lambda k: len(words[k]))  # little padding in a batch
        for first in range(0, len(words), _BATCH):
            batch = by_length[first : first + _BATCH]
            for k, found in zip(batch, self._read_batch([words[k] for k in batch]), strict=True):
                readings[k] = found
        return readings

    def _read_batch(self, words: Sequence[str]) -> list[tuple[Reading, ...]]:
        state = self._encode(words)
        greedy = self._decode(state, np.full(len(words), -1), np.zeros(len(words), np.int64))
        other = self._decode(state, greedy.other_step, greedy.other_output)
        results = []
        for k in range(len(words)):
            found: dict[Phones, float] = {}
            for decoded in (greedy, other):
                if phones := decoded.phones(k):
                    found.setdefault(phones, float(np.exp(decoded.log_probability[k])))
            results.append(tuple(sorted(map(Reading._make, found.items()), key=lambda reading: -reading.probability)))
        return results

    def _encode(self, words: Sequence[str]) -> Floats:
        """The encoder's last state [B, H] of each word."""
        encoder = self._weights.encoder
        lengths = np.array([len(word) + 1 for word in words])
        letters = np.full((len(words), lengths.max()), _END_OF_WORD)
        for k, word in enumerate(words):
            letters[k, : len(word)] = [_LETTERS.get(letter, _UNKNOWN) for letter in word]
        state = np.zeros((len(words), encoder.w_hh.shape[1]), np.float32)
        for step in range(letters.shape[1]):
            goes_on = lengths > step
            state[goes_on] = encoder.step(letters[goes_on, step], state[goes_on])
        return state

    def _decode(self, state: Floats, forced_step: Integers, forced_output: Integers) -> _Decoded:
        """Greedy outputs from a state [B, H], except that a given output is taken at a given step (-1: none)."""
        weights = self._weights
        shape = len(state), _MOST_STEPS
        outputs, runners_up = np.full(shape, _END), np.full(shape, _END)
        own, of_runner_up = np.zeros(shape), np.full(shape, -np.inf)  # log-probabilities
        rows, last = np.arange(len(state)), np.full(len(state), _START)  # of the words that have not ended
        for step in range(_MOST_STEPS):
            state = weights.decoder.step(last, state)
            logits = state @ weights.output.T + weights.output_bias
            last = np.where(forced_step[rows] == step, forced_output[rows], logits.argmax(1))
            of_output, of_group = _log_probabilities(logits)
            of_output[_GROUP[last][:, None] == _GROUP] = -np.inf
            second = of_output.argmax(1)
            outputs[rows, step], own[rows, step] = last, of_group[np.arange(len(rows)), _GROUP[last]]
            runners_up[rows, step], of_runner_up[rows, step] = second, of_group[np.arange(len(rows)), _GROUP[second]]
            goes_on = last != _END
            rows, last, state = rows[goes_on], last[goes_on], state[goes_on]
            if not len(rows):
                break
        before = np.cumsum(own, 1) - own
        other_step = (before + of_runner_up).argmax(1)
        return _Decoded(outputs, own.sum(1), other_step, runners_up[np.arange(len(outputs)), other_step])


def _log_probabilities(logits: Floats) -> tuple[Floats, Floats]:
    """Of each output [B, outputs] that is a phone or the end, and of each group of outputs [B, groups]."""
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    of_output = np.log(np.maximum(probabilities, _TINY))
    of_output[:, _NO_PHONE == _GROUP] = -np.inf
    return of_output, np.log(np.maximum(probabilities @ _IN_GROUP, _TINY))


def _installed_weights() -> Path:
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pronunciations need the package g2p_en; install it with pip install g2p_en")
    path = Path(spec.submodule_search_locations[0]) / "checkpoint20.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; install g2p_en 2.1.0")
    return path
