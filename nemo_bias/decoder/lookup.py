"""Lexicon lookup: entities that sound like words of which greedy decoding was not sure, as further arcs.

A recogniser that does not know a name writes words that sound alike, and its tokens may be far from the name's. So runs of
one to three such words are compared with the list by how they are pronounced, and the nearest entities become arcs in the
frames of the run, by forced alignment of their tokens. Whether one of them is the entity is asked as of every other arc.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.alignment import align, token_frames
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.frames import BatchFrames
from nemo_bias.decoder.sounds import Sounds
from nemo_bias.decoder.spotter import EntityArcs
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.words import GreedyWords
from nemo_bias.pronunciation.distance import packed
from nemo_bias.pronunciation.heard import heard_phones
from nemo_bias.pronunciation.index import nearest

LONGEST_RUN = 3  # words that are compared with an entity as one
SURE = np.float32(0.95)  # the recogniser is sure of a word if the probability of each of its labels is at least this
NEAREST = 3  # entities that are proposed for a run


def look_up(
    arcs: EntityArcs,
    frames: BatchFrames,
    words: GreedyWords,
    asked: NDArray[np.bool_],
    entities: CompiledList,
    sounds: Sounds,
    vocabulary: Vocabulary,
    farthest: float,
) -> EntityArcs:
    """Adds the arcs of entities that sound most like runs of words of which greedy decoding was not sure.

    How a run sounds is how its words are pronounced; with a phone head, also what that heard there.

    Args:
        arcs: that are there already; the others come after them.
        frames: of some utterances.
        words: the greedy words of `frames.plain`.
        asked: [U] in which of the utterances.
        entities: the list.
        sounds: pronounces texts.
        vocabulary: the model's tokens.
        farthest: the greatest `phone_distance` of an entity from how a run sounds; 0: they sound the same.
    """
    runs = unsure_runs(words, frames.plain_best, asked)
    heard = sounds.heard([vocabulary.text(words.token[low:high].tolist()) for low, high in runs.tolist()])
    if frames.phones is not None:
        heard += _heard_in(runs, words, frames)
        runs = np.concatenate([runs, runs])
    more: EntityArcs = with_proposals(
        *(arcs, frames.log_probs, frames.best, frames.bounds, words, runs, *packed(heard)),
        *(entities.index, np.float32(farthest), entities.form_of, entities.shortest, vocabulary.blank),
    )
    return more


def _heard_in(runs: NDArray[np.int32], words: GreedyWords, frames: BatchFrames) -> list[NDArray[np.int32]]:
    """[runs] the phones that a phone head heard in each run, up to the first frame of the next word."""
    first, heard = words.first_of_utterance, list[NDArray[np.int32]]()
    for u, (low, high) in enumerate(np.searchsorted(runs[:, 0], [first[:-1], first[1:]]).T.tolist()):
        own = frames.utterance(u)
        assert own.phones is not None
        starts = np.append(words.token_start[first[u] : first[u + 1]] - frames.bounds[u, 0], len(own.labels))
        spoken = starts[runs[low:high] - first[u]] * frames.sub_frames
        said, offsets = heard_phones(own.phones, spoken[:, 0], spoken[:, 1], own.phones.shape[1] - 1)
        heard += [said[a:b] for a, b in pairwise(offsets)]
    return heard


@njit
def unsure_runs(words, best, asked):  # type: ignore[no-untyped-def]
    """Runs of words of an utterance that begin and end with one of which greedy decoding was not sure.

    Args:
        words: the `GreedyWords` of some utterances.
        best: [F] the highest log-prob of each frame.
        asked: [U] in which of the utterances.

    Returns:
        [runs, 2] first token of each run, and the token after its last.
    """
    count = len(words.first_token) - 1
    runs = np.empty((LONGEST_RUN * max(1, count), 2), np.int32)
    unsure = np.zeros(count, np.bool_)
    for word in range(count):
        for k in range(words.first_token[word], words.first_token[word + 1]):
            for t in range(words.token_start[k], words.token_end[k] + 1):
                unsure[word] |= best[t] < np.log(SURE)
    n = 0
    for u in np.flatnonzero(asked):
        end = words.first_word[u + 1]
        for first in range(words.first_word[u], end):
            for last in range(first, min(end, first + LONGEST_RUN)):
                if unsure[first] and unsure[last]:
                    runs[n] = words.first_token[first], words.first_token[last + 1]
                    n += 1
    return runs[:n]


@njit
def with_proposals(  # type: ignore[no-untyped-def]
    arcs, log_probs, best, bounds, words, runs, heard, first_heard, index, farthest, form_of, shortest, blank
):
    """Adds arcs of the entities that sound most like runs of words, each by forced alignment of its tokens.

    The frames of a run are those of its words and the blanks around them.

    Args:
        arcs: `EntityArcs` that come first.
        log_probs: [F, V] natural logarithms.
        best: [F] the highest of each frame.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        words: their `GreedyWords`.
        runs: [n, 2] first token of each run, and the token after its last.
        heard: phones of all runs, one after the other.
        first_heard: [n + 1] where those of each begin.
        index: the pronunciations of the list.
        farthest: the greatest distance that counts.
        form_of: [phrases] index of each phrase in the automaton.
        shortest: the `ShortestTokens` of the phrases.
        blank: id of the blank.

    Returns:
        `EntityArcs`; entities for whose tokens there are too few frames are not among them.
    """
    found, _ = nearest(index, heard, first_heard, NEAREST, farthest)
    n, token = len(arcs.phrase), arcs.first_token[-1]
    most, most_tokens = n, token
    for phrase in found.flat:
        if phrase >= 0:
            most += 1
            most_tokens += shortest.first_token[phrase + 1] - shortest.first_token[phrase]
    ints, gap = np.empty((3, most), np.int32), np.empty(most, np.float32)
    first_token, tokens = np.zeros(most + 1, np.int32), np.empty(most_tokens, np.int32)
    ints[0, :n], ints[1, :n], ints[2, :n], gap[:n] = arcs.phrase, arcs.start, arcs.end, arcs.gap
    first_token[: n + 1], tokens[:token] = arcs.first_token, arcs.tokens
    first = words.first_token[words.first_word]
    for run in range(len(runs)):
        u = np.searchsorted(first, runs[run, 0], side="right") - 1
        start = words.token_end[runs[run, 0] - 1] + 1 if runs[run, 0] > first[u] else bounds[u, 0]
        end = words.token_start[runs[run, 1]] if runs[run, 1] < first[u + 1] else bounds[u, 1]
        for phrase in found[run]:
            if phrase < 0:
                break
            own = shortest.token[shortest.first_token[phrase] : shortest.first_token[phrase + 1]]
            needed = len(own)
            for j in range(1, len(own)):
                needed += own[j] == own[j - 1]
            if needed == 0 or end - start < needed:
                continue
            path = align(log_probs[start:end], own, blank)
            starts, _ = token_frames(path, len(own), blank)
            ints[0, n], ints[1, n], ints[2, n] = form_of[phrase], start + starts[0], start + starts[-1]
            gap[n] = 0
            for t in range(starts[0], starts[-1] + 1):
                gap[n] += log_probs[start + t, path[t]] - best[start + t]
            tokens[token : token + len(own)] = own
            token += len(own)
            n += 1
            first_token[n] = token
    return EntityArcs(ints[0, :n], ints[1, :n], ints[2, :n], gap[:n], first_token[: n + 1], tokens[:token])
