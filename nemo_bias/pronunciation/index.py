"""Which of many pronunciations are nearest, by `nemo_bias.pronunciation.distance.phone_distance`.

The pronunciations lie side by side, the longest first, so one pass of the edit distance goes through many of them at once,
in the vector units of the processor. That is several times as fast as a trie, whose branches can hardly ever be left early:
of a thousand names, the third nearest to any word is not near. Sounds that begin alike share a pass. The result is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.pronunciation.distance import COST_UNIT, feature_costs
from nemo_bias.pronunciation.phones import PHONES, Phones

GAP = len(PHONES)  # what stands for a phone that is inserted or deleted
BLOCK = 1024  # pronunciations that are gone through together: their rows of the edit distance fit a fast cache
LONGEST = 150  # phones; the costs of longer ones might overflow, and no three words have as many
_COSTS = np.rint(feature_costs() / COST_UNIT).astype(np.uint8)


class PronunciationIndex(NamedTuple):
    """The pronunciations of entities, in blocks; in each, the longest first.

    Attributes:
        owner: [pronunciations] the entity that each is of.
        width: [columns] those of a block that have more than no phone, more than one, and so on.
        cost: [blocks * (GAP + 1) * their phones] for each block, each phone and the gap: in units of `COST_UNIT`, what it
            costs to take it for the first phone of all of the block's pronunciations, for the second of those that have
            one, and so on.
        first_owner: [blocks + 1] each block's first pronunciation.
        first_width: [blocks + 1] each block's first column.
        first_cost: [blocks + 1] each block's first cost.
    """

    owner: NDArray[np.int32]
    width: NDArray[np.int32]
    cost: NDArray[np.uint8]
    first_owner: NDArray[np.int64]
    first_width: NDArray[np.int64]
    first_cost: NDArray[np.int64]

    def joined(self, other: PronunciationIndex, entity: NDArray[np.int32]) -> PronunciationIndex:
        """Both as one; `entity` has the new numbers of the entities of `other`. Costs a copy, and no sorting."""
        return PronunciationIndex(
            np.concatenate([self.owner, entity[other.owner]]),
            *(np.concatenate([mine, theirs]) for mine, theirs in zip(self[1:3], other[1:3], strict=True)),
            *(np.concatenate([mine, theirs[1:] + mine[-1]]) for mine, theirs in zip(self[3:], other[3:], strict=True)),
        )


def index_of(pronunciations: Sequence[Sequence[Phones]]) -> PronunciationIndex:
    """An index of the pronunciations of entities; an entity without any, up to `LONGEST` phones, is never found."""
    entries = {(tuple(each), owner) for owner, own in enumerate(pronunciations) for each in own if 0 < len(each) <= LONGEST}
    ordered = sorted(entries, key=lambda entry: (-len(entry[0]), entry))
    widths: list[int] = []
    blocks, first_owner, first_width, first_cost = [np.zeros(0, np.uint8)], [0], [0], [0]
    for start in range(0, len(ordered), BLOCK):
        block = [phones for phones, _ in ordered[start : start + BLOCK]]
        columns = [[phones[k] for phones in block if k < len(phones)] for k in range(len(block[0]))]
        widths += map(len, columns)
        blocks.append(_COSTS[:, np.concatenate(columns)].reshape(-1))
        first_owner.append(start + len(block))
        first_width.append(len(widths))
        first_cost.append(first_cost[-1] + len(blocks[-1]))
    return PronunciationIndex(
        np.array([owner for _, owner in ordered], np.int32),
        np.array(widths, np.int32),
        np.concatenate(blocks),
        *(np.array(first, np.int64) for first in (first_owner, first_width, first_cost)),
    )


@njit
def nearest(index, heard, first_heard, most, farthest):  # type: ignore[no-untyped-def]
    """The entities with the nearest pronunciations.

    Args:
        index: of all entities.
        heard: phone ids, one sound after the other.
        first_heard: [sounds + 1] where each begins. One that begins as the one before it costs only what comes after that.
        most: entities wanted for each, at least 1.
        farthest: the greatest distance that counts.

    Returns:
        [sounds, most] entities, nearest first, of equally near ones the first of the list; -1 where there are fewer. And
        their distances, infinite there.
    """
    sounds = len(first_heard) - 1
    entities, distances = np.full((sounds, most), -1, np.int32), np.full((sounds, most), np.inf, np.float32)
    for block in range(len(index.first_owner) - 1):
        owner = index.owner[index.first_owner[block] : index.first_owner[block + 1]]
        width = index.width[index.first_width[block] : index.first_width[block + 1]]
        cost = index.cost[index.first_cost[block] : index.first_cost[block + 1]].reshape(GAP + 1, -1)
        start = np.zeros(len(width) + 2, np.int64)  # in a row: of the pronunciations cut to no phone, to one, ...
        start[1] = len(owner)
        start[2:] = len(owner) + np.cumsum(width)
        silence = _inserted(cost[GAP], start)
        row = silence  # the costs of what was heard so far
        spare = np.empty((2, len(silence)), np.int16)
        heard_before = heard[:0]
        for k in range(sounds):
            now = heard[first_heard[k] : first_heard[k + 1]]
            if len(now) == 0 or len(now) > LONGEST:
                continue
            known = len(heard_before)
            if known == 0 or known > len(now) or not np.array_equal(now[:known], heard_before):
                known = 0
                row = silence
            for n in range(known, len(now)):
                _go_on(row, spare[n % 2], cost[now[n]], cost[GAP], np.int16(_COSTS[now[n], GAP]), start)
                row = spare[n % 2]
            heard_before = now
            for length in range(1, len(width) + 1):
                first = width[length] if length < len(width) else 0
                longer = max(length, len(now))
                limit = _units(min(farthest, distances[k, -1]), longer)
                own = row[start[length] + first : start[length] + width[length - 1]]
                if not _any_within(own, limit):
                    continue
                for n in range(len(own)):
                    if own[n] <= limit:
                        distance = np.float32(own[n] * COST_UNIT / longer)
                        if distance <= farthest:
                            _put(entities[k], distances[k], owner[first + n], distance)
                            limit = _units(min(farthest, distances[k, -1]), longer)
    return entities, distances


@njit
def _any_within(costs, limit):  # type: ignore[no-untyped-def]
    """Whether a cost is at most the limit; vectors, which is all that most pronunciations need."""
    found = False
    for n in range(len(costs)):
        found |= costs[n] <= limit
    return found


@njit
def _units(distance, longer):  # type: ignore[no-untyped-def]
    """The cost of a distance, in whole units, rounded up."""
    return np.int16(min(np.float32(32767), distance * longer / COST_UNIT + 1))


@njit
def _inserted(inserted, start):  # type: ignore[no-untyped-def]
    """The row of the edit distance before anything was heard.

    This inner loop and the next one are of vectors; so they must not have to ask whether a position counts from the end.
    """
    row = np.zeros(start[-1], np.int16)
    for k in range(1, len(start) - 1):
        shorter, own, costs = np.uint64(start[k - 1]), np.uint64(start[k]), np.uint64(start[k] - start[1])
        for n in range(np.uint64(start[k + 1] - start[k])):
            row[own + n] = np.int16(row[shorter + n] + np.int16(inserted[costs + n]))
    return row


@njit
def _go_on(last, row, taken, inserted, left_out, start):  # type: ignore[no-untyped-def]
    """The row of the edit distance after one more phone, given the last one."""
    for n in range(start[1]):
        row[n] = np.int16(last[n] + left_out)
    for k in range(1, len(start) - 1):
        shorter, own, costs = np.uint64(start[k - 1]), np.uint64(start[k]), np.uint64(start[k] - start[1])
        for n in range(np.uint64(start[k + 1] - start[k])):
            take = np.int16(last[shorter + n] + np.int16(taken[costs + n]))
            leave = np.int16(last[own + n] + left_out)
            insert = np.int16(row[shorter + n] + np.int16(inserted[costs + n]))
            cost = take if take < leave else leave
            row[own + n] = cost if cost < insert else insert


@njit
def _put(entities, distances, entity, distance):  # type: ignore[no-untyped-def]
    """Puts an entity among the nearest, unless it is there already as near."""
    place = len(entities) - 1
    for k in range(len(entities)):
        if entities[k] == entity:
            place = k
    if (distances[place], entities[place]) <= (distance, entity):
        return
    while place > 0 and (distances[place - 1], entities[place - 1]) > (distance, entity):
        entities[place], distances[place] = entities[place - 1], distances[place - 1]
        place -= 1
    entities[place], distances[place] = entity, distance
