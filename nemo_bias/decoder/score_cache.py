"""What a language model says of a word after a context, kept where compiled code can read it.

Compiled code cannot ask the language model. It looks into the cache; what it does not find there, it asks Python for, which
fills the cache from the model. A context is the number of a state of the model.

Threads read the table while another one writes it, without a lock. An entry is two numbers, and the first is the key XOR
the second: a reader that sees half of an entry finds another key in it, and takes it for missing (Hyatt and Mann 2002, "A
lock-less transposition table implementation for parallel search chess engines"). So it asks in vain, at worst.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit

FIRST_SLOTS = 1 << 16

# What the model says of a word after a state: log-probability in nats, and the state that follows.
Ask = Callable[[Any, int], tuple[float, Any]]


class ScoreCache:
    """Scores of words after contexts; any number of threads may read and fill it.

    Args:
        ask: asks the language model.
        start: its state at the start of a sentence, which is number 0. States are hashable.
    """

    def __init__(self, ask: Ask, start: Any) -> None:
        self.table = np.zeros((FIRST_SLOTS, 2), np.uint64)  # of another size after `fill`, at times
        self.entries = 0
        self._ask = ask
        self._states = [start]
        self._numbers = {start: 0}
        self._lock = threading.Lock()

    def fill(self, pairs: NDArray[np.int32]) -> None:
        """Asks the model for pairs [n, 2] of a context and a word."""
        with self._lock:
            for context, word in dict.fromkeys(map(tuple, pairs.tolist())):
                score, state = self._ask(self._states[context], word)
                number = self._numbers.setdefault(state, len(self._states))
                if number == len(self._states):
                    self._states.append(state)
                if 2 * self.entries >= len(self.table):
                    larger = np.zeros((2 * len(self.table), 2), np.uint64)
                    _copy(self.table, larger)
                    self.table = larger
                self.entries += _store(self.table, context, word, np.float32(score), number)


@njit(inline="always")
def _key(context, word):  # type: ignore[no-untyped-def]
    return ((np.uint64(context) << np.uint64(32)) | np.uint64(word)) + np.uint64(1)


@njit(inline="always")
def _slot(table, key):  # type: ignore[no-untyped-def]
    return np.int64(((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & np.uint64(len(table) - 1))


@njit
def cached_score(table, context, word):  # type: ignore[no-untyped-def]
    """Looks a pair up.

    Args:
        table: of a `ScoreCache`.
        context: number of a state.
        word: number of a word.

    Returns:
        Log-probability in nats, NaN if it is not there, and the number of the state that follows.
    """
    key = _key(context, word)
    slot = _slot(table, key)
    while True:
        check, value = table[slot, 0], table[slot, 1]
        if check == 0 and value == 0:
            return np.float32(np.nan), np.int32(0)
        if check ^ value == key:
            return np.uint32(value >> np.uint64(32)).view(np.float32), np.int32(value & np.uint64(0xFFFFFFFF))
        slot = (slot + 1) & (len(table) - 1)


@njit
def _store(table, context, word, score, number):  # type: ignore[no-untyped-def]
    """Whether a pair was not there; writes it."""
    key = _key(context, word)
    value = (np.uint64(np.float32(score).view(np.uint32)) << np.uint64(32)) | np.uint64(number)
    slot = _slot(table, key)
    while table[slot, 0] != 0 or table[slot, 1] != 0:
        if table[slot, 0] ^ table[slot, 1] == key:
            return False
        slot = (slot + 1) & (len(table) - 1)
    table[slot, 0], table[slot, 1] = key ^ value, value
    return True


@njit
def _copy(table, larger):  # type: ignore[no-untyped-def]
    for k in range(len(table)):
        if table[k, 0] != 0 or table[k, 1] != 0:
            slot = _slot(larger, table[k, 0] ^ table[k, 1])
            while larger[slot, 0] != 0 or larger[slot, 1] != 0:
                slot = (slot + 1) & (len(larger) - 1)
            larger[slot, 0], larger[slot, 1] = table[k, 0], table[k, 1]
