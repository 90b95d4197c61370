"""Which of many pronunciations is nearest, by `nemo_bias.pronunciation.distance.phone_distance`.

The targets form a trie in depth-first order. One row of the edit distance serves all targets that share the phones so far,
and a branch is left as soon as none of its targets can be near enough. The result is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.pronunciation.phones import Phones

Integers = NDArray[np.int64]


def nearest(
    queries: Sequence[Phones], targets: Sequence[Phones], costs: NDArray[np.float32], most: float
) -> tuple[NDArray[np.float64], Integers]:
    """The nearest target of each query.

    Args:
        queries: Q pronunciations, not empty.
        targets: pronunciations, not empty.
        costs: [40, 40], see `nemo_bias.pronunciation.distance.feature_costs`.
        most: the greatest distance that counts.

    Returns:
        Distances [Q], infinite where no target lies within `most`, and places of the targets [Q], -1 there.
    """
    lengths = np.array([len(query) for query in queries], np.int64)
    phones = np.array([phone for query in queries for phone in query], np.int64)
    distances = np.full(len(queries), np.inf)
    places = np.full(len(queries), -1)
    _search(phones, np.concatenate(([0], np.cumsum(lengths))), _trie(targets), costs, most, distances, places)
    return distances, places


class _Trie(NamedTuple):
    """The nodes of a trie but its root, in depth-first order.

    Attributes:
        phone: of each node.
        depth: 1 for the root's children.
        after: the first node behind its subtree.
        deepest: the greatest depth in its subtree.
        target: place of the target that ends there, -1 if none does.
    """

    phone: Integers
    depth: Integers
    after: Integers
    deepest: Integers
    target: Integers


def _trie(targets: Sequence[Phones]) -> _Trie:
    phone: list[int] = []
    depth: list[int] = []
    target: list[int] = []
    path: Phones = ()
    for place in sorted(range(len(targets)), key=lambda k: targets[k]):
        new = targets[place]
        if new == path:
            continue
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, new, strict=False)))
        phone += new[shared:]
        depth += range(shared + 1, len(new) + 1)
        target += [-1] * (len(new) - shared - 1) + [place]
        path = new
    after, deepest = [0] * len(depth), list(depth)
    branch: list[int] = []
    for node, its_depth in enumerate([*depth, 0]):
        while branch and depth[branch[-1]] >= its_depth:
            done = branch.pop()
            after[done] = node
            if branch:
                deepest[branch[-1]] = max(deepest[branch[-1]], deepest[done])
        branch.append(node)
    return _Trie(*(np.array(column, np.int64) for column in (phone, depth, after, deepest, target)))


@numba.njit(cache=True)
def _search(
    phones: Integers,
    starts: Integers,
    trie: _Trie,
    costs: NDArray[np.float32],
    most: float,
    distances: NDArray[np.float64],
    places: Integers,
) -> None:
    """Fills in the distances and places of `nearest`; a query has the phones from its start to the next one's."""
    gap = costs.shape[0] - 1
    longest, deepest = 0, 0
    for query in range(len(distances)):
        longest = max(longest, starts[query + 1] - starts[query])
    for node in range(len(trie.depth)):
        deepest = max(deepest, trie.depth[node])
    rows = np.zeros((deepest + 1, longest + 1))  # of the edit distance, for the nodes on the path to the current one
    for query in range(len(distances)):
        own = phones[starts[query] : starts[query + 1]]
        for j in range(len(own)):
            rows[0, j + 1] = rows[0, j] + costs[own[j], gap]
        bound = most
        node = 0
        while node < len(trie.phone):
            phone, depth = trie.phone[node], trie.depth[node]
            above, row = rows[depth - 1], rows[depth]
            row[0] = above[0] + costs[gap, phone]
            least = row[0]
            for j in range(len(own)):
                row[j + 1] = min(
                    above[j] + costs[own[j], phone], above[j + 1] + costs[gap, phone], row[j] + costs[own[j], gap]
                )
                least = min(least, row[j + 1])
            distance = row[len(own)] / max(depth, len(own))
            if trie.target[node] >= 0 and distance <= bound and distance < distances[query]:
                distances[query], places[query], bound = distance, trie.target[node], distance
            # Costs never fall along a branch, and the length that they are divided by is at most this one.
            too_far = least > bound * max(trie.deepest[node], len(own))
            node = trie.after[node] if too_far else node + 1
