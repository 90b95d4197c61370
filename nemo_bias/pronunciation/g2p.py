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
_MOST_STEPS = 20  # phones of a word, as in g2p_en
_BATCH = 512  # words

Floats = NDArray[np.float32]


class Reading(NamedTuple):
    """Phones and their probability."""

    phones: Phones
    probability: float


@dataclass(frozen=True)
class _Gru:
    """A gated recurrent unit: weights [3 * H, D] and [3 * H, H], biases [3 * H]; gates in the order reset, update, new."""

    w_ih: Floats
    w_hh: Floats
    b_ih: Floats
    b_hh: Floats

    def step(self, x: Floats, h: Floats) -> Floats:
        """The state [B, H] after an input [B, D]."""
        size = h.shape[1]
        of_input, of_state = x @ self.w_ih.T + self.b_ih, h @ self.w_hh.T + self.b_hh
        gates = 1 / (1 + np.exp(-(of_input[:, : 2 * size] + of_state[:, : 2 * size])))
        reset, update = gates[:, :size], gates[:, size:]
        new = np.tanh(of_input[:, 2 * size :] + reset * of_state[:, 2 * size :])
        state: Floats = (1 - update) * new + update * h
        return state


class NeuralG2P:
    """The model; its weights are read at first use.

    Args:
        path: of the weights; None: those of the installed g2p_en.

    Raises:
        ModuleNotFoundError: if g2p_en is not installed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _installed_weights()

    @cached_property
    def version(self) -> str:
        """A hash of the weights."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    @cached_property
    def _weights(self) -> dict[str, Floats]:
        with np.load(self.path) as file:
            return dict(file)

    def __call__(self, words: Sequence[str]) -> list[tuple[Reading, ...]]:
        """The best reading of each word and, where there is one, a second.

        The first is the greedy output. The second leaves it once, where another phone has the highest probability, and
        goes on greedily. Probabilities are sums over stress.

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
        weights = self._weights
        lengths = np.array([len(word) + 1 for word in words])
        letters = np.zeros((len(words), lengths.max()), np.int64)
        for k, word in enumerate(words):
            letters[k, : len(word)] = [_LETTERS.get(letter, _UNKNOWN) for letter in word]
            letters[k, len(word)] = _END_OF_WORD
        gru = self._gru("enc")
        state = np.zeros((len(words), weights["enc_w_hh"].shape[1]), np.float32)
        for step in range(letters.shape[1]):
            goes_on = lengths > step
            state[goes_on] = gru.step(weights["enc_emb"][letters[goes_on, step]], state[goes_on])
        return state

    def _decode(self, state: Floats, forced_step: NDArray[np.int64], forced_output: NDArray[np.int64]) -> _Decoded:
        """Greedy outputs from a state [B, H], except that a given output is taken at a given step (-1: none)."""
        weights = self._weights
        gru = self._gru("dec")
        count = len(state)
        decoded = _Decoded(
            np.full((count, _MOST_STEPS), _END),
            np.zeros(count),
            np.full(count, -1),
            np.zeros(count, np.int64),
        )
        best_other = np.full(count, -np.inf)
        rows = np.arange(count)
        last = np.full(count, _START)
        for step in range(_MOST_STEPS):
            state = gru.step(weights["dec_emb"][last], state)
            logits = (state @ weights["fc_w"].T + weights["fc_b"]).astype(np.float64)
            probabilities = np.exp(logits - logits.max(1, keepdims=True))
            probabilities /= probabilities.sum(1, keepdims=True)
            grouped = probabilities @ _IN_GROUP
            chosen = np.where(forced_step[rows] == step, forced_output[rows], logits.argmax(1))
            own_group = np.arange(grouped.shape[1]) == _GROUP[chosen][:, None]
            others = np.log(np.maximum(np.where(own_group, 0, grouped), 1e-300)) + decoded.log_probability[rows, None]
            others[:, _NO_PHONE] = -np.inf
            better = others.max(1) > best_other[rows]
            for row, k in zip(rows[better], np.flatnonzero(better), strict=True):
                group = others[k].argmax()
                best_other[row] = others[k, group]
                decoded.other_step[row] = step
                decoded.other_output[row] = np.where(group == _GROUP, probabilities[k], -1).argmax()
            decoded.log_probability[rows] += np.log(grouped[np.arange(len(rows)), _GROUP[chosen]])
            decoded.outputs[rows, step] = chosen
            goes_on = chosen != _END
            rows, last, state = rows[goes_on], chosen[goes_on], state[goes_on]
            if not len(rows):
                break
        return decoded

    def _gru(self, name: str) -> _Gru:
        return _Gru(*(self._weights[f"{name}_{part}"] for part in ("w_ih", "w_hh", "b_ih", "b_hh")))


_IN_GROUP = (_GROUP[:, None] == np.arange(len(PHONES) + 2)).astype(np.float64)  # [outputs, groups]


@dataclass
class _Decoded:
    """Outputs [B, steps] of a batch, and where each word could best have left them."""

    outputs: NDArray[np.int64]
    log_probability: NDArray[np.float64]
    other_step: NDArray[np.int64]
    other_output: NDArray[np.int64]

    def phones(self, row: int) -> Phones:
        groups = _GROUP[self.outputs[row]]
        return tuple(groups[groups < _NO_PHONE].tolist())


def _installed_weights() -> Path:
    spec = importlib.util.find_spec("g2p_en")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pronunciations need the package g2p_en; install it with pip install g2p_en")
    return Path(spec.submodule_search_locations[0]) / "checkpoint20.npz"
