"""The words of a language model, letter by letter, for compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit

ROOT, UNLIKE = 0, 1  # nodes: no letter yet; letters with which no word begins
UNKNOWN, END = 0, 1  # words: any that the language model does not know, and the end of the sentence


class WordTrie(NamedTuple):
    """Nodes stand for the beginnings of words; of each, edges lead to those with one more letter.

    Attributes:
        first: [nodes + 1]; the edges of node ``n`` are ``first[n]`` to ``first[n + 1]``.
        code: [edges] letters, rising at each node.
        target: [edges] nodes.
        word: [nodes] the word that ends here; `UNKNOWN` if there is none.
        best: [nodes] what the best word that begins so counts, in nats, without any context.
    """

    first: NDArray[np.int32]
    code: NDArray[np.uint32]
    target: NDArray[np.int32]
    word: NDArray[np.int32]
    best: NDArray[np.float32]


def word_trie(keys: Sequence[str], counts: NDArray[np.float32], unknown: float) -> WordTrie:
    """Builds a trie.

    Args:
        keys: distinct, sorted by code point; key ``k`` is word ``k + 2``.
        counts: [keys] what each counts, nats.
        unknown: what a word counts that is none of them, nats.
    """
    offset = np.zeros(len(keys) + 1, np.int64)
    offset[1:] = np.cumsum([len(key) for key in keys])
    trie: WordTrie = _built(np.frombuffer("".join(keys).encode("utf-32-le"), np.uint32), offset, counts, unknown)
    return trie


@njit
def _built(codes, offset, counts, unknown):  # type: ignore[no-untyped-def]
    most = 2 + len(codes)
    parent, letter = np.zeros(most, np.int32), np.zeros(most, np.uint32)
    word, best = np.full(most, UNKNOWN, np.int32), np.full(most, unknown, np.float32)
    longest = 0
    for k in range(len(offset) - 1):
        longest = max(longest, offset[k + 1] - offset[k])
    way = np.zeros(longest + 1, np.int32)  # the nodes of the key before
    nodes = 2
    before = codes[:0]
    for k in range(len(offset) - 1):
        key = codes[offset[k] : offset[k + 1]]
        depth = 0
        while depth < min(len(key), len(before)) and key[depth] == before[depth]:
            depth += 1
        for d in range(depth, len(key)):
            parent[nodes], letter[nodes] = way[d], key[d]
            way[d + 1] = nodes
            nodes += 1
        word[way[len(key)]], best[way[len(key)]] = k + 2, counts[k]
        before = key
    for node in range(nodes - 1, 1, -1):
        best[node] = max(best[node], np.float32(unknown))
        best[parent[node]] = max(best[parent[node]], best[node])
    first = np.zeros(nodes + 1, np.int32)
    for node in range(2, nodes):
        first[parent[node] + 1] += 1
    for node in range(nodes):
        first[node + 1] += first[node]
    code, target = np.empty(nodes - 2, np.uint32), np.empty(nodes - 2, np.int32)
    used = first[:-1].copy()
    for node in range(2, nodes):  # of one parent, in the order of their letters
        edge = used[parent[node]]
        code[edge], target[edge] = letter[node], node
        used[parent[node]] += 1
    return WordTrie(first, code, target, word[:nodes].copy(), best[:nodes].copy())


@njit
def walk(trie, node, codes):  # type: ignore[no-untyped-def]
    """The node that letters [n] lead to from a node."""
    for code in codes:
        low, high = trie.first[node], trie.first[node + 1]
        end = high
        while low < high:
            middle = (low + high) >> 1
            if trie.code[middle] < code:
                low = middle + 1
            else:
                high = middle
        if low == end or trie.code[low] != code:
            return UNLIKE
        node = trie.target[low]
    return node
