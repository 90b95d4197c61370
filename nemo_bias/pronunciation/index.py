"""Which of many pronunciations are nearest, by `nemo_bias.pronunciation.distance.phone_distance`, without trying them all.

The pronunciations form a trie in depth-first order. One row of the edit distance serves all that share the phones so far,
and a branch is left as soon as none of its pronunciations can be near enough. The result is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.pronunciation.phones import Phones

ROUNDING = np.float32(1e-4)  # more than the bounds of a branch may be wrong by


class PronunciationIndex(NamedTuple):
    """A trie of the pronunciations of entities, in depth-first order; node 0 is the root.

    Attributes:
        phone: [nodes] the phone that leads to each node.
        depth: [nodes] phones between it and the root.
        deepest: [nodes] the greatest depth in its subtree.
        after: [nodes] the first node behind its subtree.
        first_owner: [nodes + 1]; at node ``n`` pronunciations of ``owner[first_owner[n]:first_owner[n + 1]]`` end.
        owner: [pronunciations] the entities that they are of.
    """

    phone: NDArray[np.int32]
    depth: NDArray[np.int32]
    deepest: NDArray[np.int32]
    after: NDArray[np.int32]
    first_owner: NDArray[np.int32]
    owner: NDArray[np.int32]

    def joined(self, other: PronunciationIndex, entity: NDArray[np.int32]) -> PronunciationIndex:
        """Both as one; `entity` has the new numbers of the entities of `other`. Costs a copy, and no sorting."""
        nodes, owners = len(self.phone), len(self.owner)
        joined = PronunciationIndex(
            np.concatenate([self.phone, other.phone[1:]]),
            np.concatenate([self.depth, other.depth[1:]]),
            np.concatenate([self.deepest, other.deepest[1:]]),
            np.concatenate([self.after, other.after[1:] + np.int32(nodes - 1)]),
            np.concatenate([self.first_owner, other.first_owner[2:] + np.int32(owners)]),
            np.concatenate([self.owner, entity[other.owner]]),
        )
        joined.after[0], joined.deepest[0] = len(joined.phone), max(self.deepest[0], other.deepest[0])
        return joined


def index_of(pronunciations: Sequence[Sequence[Phones]]) -> PronunciationIndex:
    """An index of the pronunciations of entities; an entity without any is never found."""
    entries = sorted({(tuple(each), owner) for owner, own in enumerate(pronunciations) for each in own if len(each)})
    phone, depth, owner_count, owners = [-1], [0], [0], []
    path: Phones = ()
    for phones, owner in entries:
        shared = 0
        while shared < min(len(path), len(phones)) and path[shared] == phones[shared]:
            shared += 1
        phone += phones[shared:]
        depth += range(shared + 1, len(phones) + 1)
        owner_count += [0] * (len(phones) - shared)
        owner_count[-1] += 1
        owners.append(owner)
        path = phones
    depths = np.array(depth, np.int32)
    deepest, after = _subtrees(depths)
    first_owner = np.concatenate([np.zeros(1, np.int32), np.cumsum(owner_count, dtype=np.int32)])
    return PronunciationIndex(np.array(phone, np.int32), depths, deepest, after, first_owner, np.array(owners, np.int32))


@njit
def _subtrees(depth):  # type: ignore[no-untyped-def]
    """The greatest depth in each node's subtree, and the first node behind it."""
    deepest, after = depth.copy(), np.full(len(depth), len(depth), np.int32)
    branch = np.empty(np.max(depth) + 1, np.int32)  # the nodes on the path to the current one
    on_branch = 0
    for node in range(len(depth)):
        while on_branch > depth[node]:
            on_branch -= 1
            after[branch[on_branch]] = node
        branch[on_branch] = node
        on_branch += 1
        for k in range(on_branch):
            deepest[branch[k]] = max(deepest[branch[k]], depth[node])
    return deepest, after


@njit
def nearest(index, heard, costs, most, farthest):  # type: ignore[no-untyped-def]
    """The entities with the nearest pronunciations.

    Args:
        index: of all entities.
        heard: [N] phone ids.
        costs: [phones + 1, phones + 1], see `nemo_bias.pronunciation.distance.feature_costs`.
        most: entities wanted, at least 1.
        farthest: the greatest distance that counts.

    Returns:
        [n] entities and [n] distances of at most `most` entities, nearest first.
    """
    entities, distances = np.empty(most, np.int32), np.empty(most, np.float32)
    found = 0
    length, gap = len(heard), len(costs) - 1
    cheapest = costs[gap, :gap].min()
    substitute, delete = np.empty((gap, length), np.float32), np.empty(length, np.float32)
    for k in range(length):
        delete[k] = costs[heard[k], gap]
        for phone in range(gap):
            substitute[phone, k] = costs[heard[k], phone]
    rows = np.empty((index.deepest[0] + 1, length + 1), np.float32)
    rows[0, 0] = 0
    for k in range(length):
        rows[0, k + 1] = rows[0, k] + delete[k]
    bound = np.float32(farthest)
    node = 1
    while node < len(index.phone):
        depth, deepest, phone = index.depth[node], index.deepest[node], index.phone[node]
        above, row, of_phone, insert = rows[depth - 1], rows[depth], substitute[phone], costs[gap, phone]
        near = False
        for k in range(length + 1):
            cost = above[k] + insert
            if k > 0:
                cost = min(above[k - 1] + of_phone[k - 1], cost, row[k - 1] + delete[k - 1])
            row[k] = cost
            # If all other phones match, the pronunciation ends at this depth. One that ends below or above lacks as many
            # phones or has as many too many; a longer one may cost `bound` more for each of its phones.
            end = depth + length - k
            inside = min(end, deepest)
            reach = bound * max(length, inside) + max(np.float32(0), bound - cheapest) * (deepest - inside)
            near |= cost + cheapest * (end - inside) <= reach + ROUNDING
        if index.first_owner[node] < index.first_owner[node + 1]:
            distance = row[length] / max(depth, length)
            if distance <= bound:
                for n in range(index.first_owner[node], index.first_owner[node + 1]):
                    found = _put(entities, distances, found, index.owner[n], distance)
                if found == most:
                    bound = min(bound, distances[found - 1])
        node = node + 1 if near else index.after[node]
    return entities[:found], distances[:found]


@njit
def _put(entities, distances, found, entity, distance):  # type: ignore[no-untyped-def]
    """Puts an entity among those found, nearest first, unless it is there already as near; returns how many there are."""
    place = found
    for k in range(found):
        if entities[k] == entity:
            place = k
    if place < found and distances[place] <= distance:
        return found
    if place == found and found == len(entities):
        place -= 1
        if distances[place] <= distance:
            return found
    elif place == found:
        found += 1
    while place > 0 and distances[place - 1] > distance:
        entities[place], distances[place] = entities[place - 1], distances[place - 1]
        place -= 1
    entities[place], distances[place] = entity, distance
    return found
