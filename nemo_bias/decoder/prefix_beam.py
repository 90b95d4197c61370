"""The prefixes of one frame of a beam search, in arrays for compiled code, and how they become those of the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nemo_bias.compiled import njit
from nemo_bias.decoder.frames import NEVER
from nemo_bias.decoder.vocabulary import EDGE


class Beam(NamedTuple):
    """The prefixes of one frame, a row each."""

    ints: Any  # [rows, 11] int32, columns below
    reals: Any  # [rows, 6] float64, columns below
    hashes: Any  # [rows] uint64, of the prefix
    before: Any  # [rows] uint64, of the prefix without its last token
    size: Any  # [1] int64


# NODE: the prefix's last node in the tree of prefixes; LAST: its last token, -1 if empty; LENGTH: tokens.
# KEPT: the last of the entity spans that the prefix has whatever follows; CLOSED: the same if the word ends here.
# AT: the automaton node that the prefix has reached (0: none); FIRST: the token with which that match began; BASE: the last
# span before it. WORD: the trie node of its last word; CONTEXT: the language model's state before that word; AFTER: and
# after it, if it ends here.
NODE, LAST, LENGTH, KEPT, CLOSED, AT, FIRST, BASE, WORD, CONTEXT, AFTER = range(11)
# IN_BLANK, IN_TOKEN: log mass of the paths that end in a blank, in the last token.
# OPEN: what the match has been raised by, before it is multiplied by an entity's weight.
# SAID: what the language model adds for the words before the last; FORESEEN: that, and what it foresees for the last;
# ENDED: that, if the last ends here; NaN until it is asked for.
IN_BLANK, IN_TOKEN, OPEN, SAID, FORESEEN, ENDED = range(6)


class Memory(NamedTuple):
    """What outlives a frame, in arrays that are large enough from the start. Span 0 stands for no span."""

    tree: Any  # [nodes, 3] token, parent, frame: all prefixes that were ever kept
    spans: Any  # [spans, 4] phrase, first token, token after the last, span before
    bonus: Any  # [spans] what the span adds
    total: Any  # [spans] what it and all spans before it add
    used: Any  # [2] how many nodes and spans there are


NODES, SPANS = range(2)


class Search(NamedTuple):
    """A search that may stop between frames."""

    beams: Any  # the beam, and room for the next one; they change places
    stayed: Any
    memory: Any
    successors: Any
    stamps: Any  # [V + 1]; the last one counts
    at: Any  # [2] the next frame, and which of the beams is the beam
    missing: Any  # [rows, 2] contexts and words whose scores the search needs to go on


FRAME, TURN = range(2)


class Successors(NamedTuple):
    """The best successors for the next beam, best first."""

    what: Any  # [rows, 2] row of the beam, token that extends it or STAY
    rank: Any  # [rows] mass + bonus + what the language model adds
    mass: Any  # [rows]
    future: Any  # [rows] of equal ones, all that follows counts the same; 0: of no other
    size: Any  # [1]


STAY = -1


@njit(inline="always")
def log_add(a, b):  # type: ignore[no-untyped-def]
    """ln(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a + np.log1p(np.exp(b - a)) if b - a > -30.0 else a


@njit
def prefix_hash(prefix, token):  # type: ignore[no-untyped-def]
    """Hash of a prefix with one more token; equal hashes are taken for equal prefixes (64 bits)."""
    h = (prefix ^ np.uint64(token + 1)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@njit
def new_beam(size):  # type: ignore[no-untyped-def]
    """A beam without prefixes, whose first row is the empty prefix."""
    ints, reals = np.zeros((size, 11), np.int32), np.zeros((size, 6), np.float64)
    ints[:, LAST] = -1
    reals[:, IN_TOKEN] = NEVER
    return Beam(ints, reals, np.full(size, 0x51ED270B, np.uint64), np.zeros(size, np.uint64), np.zeros(1, np.int64))


@njit
def new_memory(frames, settings):  # type: ignore[no-untyped-def]
    """Room for beam_size extensions a frame, each of which may end an entity."""
    extensions = frames * settings.beam_size
    spans = 1 + (extensions if settings.boost > 0 else 0)
    tree = np.full((1 + extensions, 3), -1, np.int32)
    return Memory(tree, np.zeros((spans, 4), np.int32), np.zeros(spans), np.zeros(spans), np.ones(2, np.int64))


@njit
def mass_before(beam, i, token):  # type: ignore[no-untyped-def]
    """Mass of the paths of a prefix that the token may follow as a new token (a repeated token needs a blank before)."""
    if beam.ints[i, LAST] == token:
        return beam.reals[i, IN_BLANK]
    return log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])


@njit
def word_ends(beam, i, token, boundaries):  # type: ignore[no-untyped-def]
    """Whether a word boundary lies between a prefix and the token that follows."""
    last = beam.ints[i, LAST]
    return boundaries.between[boundaries.last[last] if last >= 0 else EDGE, boundaries.first[token]]


@njit
def stay(beam, stayed, row, settings):  # type: ignore[no-untyped-def]
    """The prefixes of the beam one frame later: a blank, the last token again, or that token after another prefix."""
    for i in range(beam.size[0]):
        keep(beam, i, stayed, i)
        last = beam.ints[i, LAST]
        stayed.reals[i, IN_BLANK] = log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN]) + row[settings.blank]
        stayed.reals[i, IN_TOKEN] = NEVER
        if last < 0:
            continue
        stayed.reals[i, IN_TOKEN] = beam.reals[i, IN_TOKEN] + row[last]
        for p in range(beam.size[0]):
            if beam.hashes[p] == beam.before[i]:
                stayed.reals[i, IN_TOKEN] = log_add(stayed.reals[i, IN_TOKEN], mass_before(beam, p, last) + row[last])


@njit
def keep(beam, i, following, c):  # type: ignore[no-untyped-def]
    """Row `c` of another beam becomes prefix `i`."""
    for k in range(beam.ints.shape[1]):
        following.ints[c, k] = beam.ints[i, k]
    for k in range(beam.reals.shape[1]):
        following.reals[c, k] = beam.reals[i, k]
    following.hashes[c], following.before[c] = beam.hashes[i], beam.before[i]


@njit(inline="always")
def least_rank(successors, spread):  # type: ignore[no-untyped-def]
    """Successors need a higher rank: than `spread` below the best, and than the last one of a full beam."""
    size = successors.size[0]
    if size == 0:
        return -np.inf
    least = successors.rank[0] - spread
    return max(least, successors.rank[-1]) if size == len(successors.rank) else least


@njit
def offer(successors, i, token, rank, mass, future, spread):  # type: ignore[no-untyped-def]
    """Puts a candidate in its place if it is among the best, and the best of its future."""
    if rank <= least_rank(successors, spread):
        return
    size = successors.size[0]
    k = min(size, len(successors.rank) - 1)  # which gives way
    if future != 0:
        for other in range(size):
            if successors.future[other] == future:
                if successors.rank[other] >= rank:
                    return
                k = other
    successors.size[0] = max(size, k + 1)
    while k > 0 and successors.rank[k - 1] < rank:
        successors.rank[k], successors.mass[k] = successors.rank[k - 1], successors.mass[k - 1]
        successors.what[k], successors.future[k] = successors.what[k - 1], successors.future[k - 1]
        k -= 1
    successors.rank[k], successors.mass[k], successors.future[k] = rank, mass, future
    successors.what[k, 0], successors.what[k, 1] = i, token


@njit
def drop_hopeless(successors, spread):  # type: ignore[no-untyped-def]
    """Drops those that lie `spread` below the best, which may have come after them."""
    while successors.rank[successors.size[0] - 1] <= successors.rank[0] - spread:
        successors.size[0] -= 1


@njit
def extend(beam, i, token, following, c, mass, memory, boundaries, frame):  # type: ignore[no-untyped-def]
    """Row `c` of the next beam becomes prefix `i` with one more token."""
    node = memory.used[NODES]
    memory.used[NODES] += 1
    memory.tree[node, 0], memory.tree[node, 1], memory.tree[node, 2] = token, beam.ints[i, NODE], frame
    span = beam.ints[i, CLOSED if word_ends(beam, i, token, boundaries) else KEPT]
    following.ints[c, :] = 0
    following.reals[c, :] = 0.0
    following.ints[c, NODE], following.ints[c, LAST], following.ints[c, LENGTH] = node, token, beam.ints[i, LENGTH] + 1
    following.ints[c, KEPT], following.ints[c, CLOSED] = span, span
    following.reals[c, IN_BLANK], following.reals[c, IN_TOKEN] = NEVER, mass
    following.hashes[c], following.before[c] = prefix_hash(beam.hashes[i], token), beam.hashes[i]
