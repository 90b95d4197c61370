"""Lexicon lookup: entities that sound like words of which greedy decoding was not sure, as further arcs.

A recogniser that does not know a name writes words that sound alike, and its tokens may be far from the name's. So runs of
one to three such words are compared with the list by how they are pronounced, and the nearest entities become arcs in the
frames of the run, by forced alignment of their tokens. Whether one of them is the entity is asked as of every other arc.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.alignment import align, token_frames
from nemo_bias.decoder.entity_list import CompiledList
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
    log_probs: NDArray[np.float32],
    best: NDArray[np.float32],
    plain_best: NDArray[np.float32],
    words: GreedyWords,
    entities: CompiledList,
    sounds: Sounds,
    vocabulary: Vocabulary,
    phones: NDArray[np.float32] | None,
    farthest: float,
) -> EntityArcs:
    """Arcs of the entities that sound most like runs of words of which greedy decoding was not sure.

    How a run sounds is how its words are pronounced; with a phone head, also what that heard there.

    Args:
        log_probs: [T, V] natural logarithms, in which the entities' tokens are aligned.
        best: [T] the highest of each frame.
        plain_best: [T] the highest of each frame where `words` was decoded.
        words: the greedy words.
        entities: the list.
        sounds: pronounces texts.
        vocabulary: the model's tokens.
        phones: [T * sub_frames, phones + 1] log-probs of a phone head, the blank last; None if there is none.
        farthest: the greatest `phone_distance` of an entity from how a run sounds; 0: they sound the same.
    """
    runs = unsure_runs(words, plain_best)
    heard = sounds.heard([vocabulary.text(words.token[low:high].tolist()) for low, high in runs.tolist()])
    if phones is not None:
        sub_frames = len(phones) // len(best)
        starts = np.append(words.token_start, len(best))[runs] * sub_frames  # up to the first frame of the next word
        said, offsets = heard_phones(phones, starts[:, 0], starts[:, 1], phones.shape[1] - 1)
        heard += np.split(said, offsets[1:-1])
        runs = np.concatenate([runs, runs])
    found, _ = nearest(entities.index, *packed(heard), NEAREST, np.float32(farthest))
    run_of, form_of, first_token = [], [], [0]
    tokens: list[int] = []
    for k, phrase in zip(np.nonzero(found >= 0)[0].tolist(), found[found >= 0].tolist(), strict=True):
        own = entities.shortest_tokens(phrase, vocabulary)
        if own is not None:
            run_of.append(k)
            form_of.append(phrase)
            tokens += own
            first_token.append(len(tokens))
    arcs: EntityArcs = align_in_runs(
        *(log_probs, best, words, runs[run_of], entities.form_of[form_of]),
        *(np.array(tokens, np.int32), np.array(first_token, np.int32), vocabulary.blank),
    )
    return arcs


@njit
def unsure_runs(words, best):  # type: ignore[no-untyped-def]
    """Runs of words that begin and end with one of which greedy decoding was not sure.

    Args:
        words: the `GreedyWords` of an utterance.
        best: [T] the highest log-prob of each frame.

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
    for first in range(count):
        for last in range(first, min(count, first + LONGEST_RUN)):
            if unsure[first] and unsure[last]:
                runs[n] = words.first_token[first], words.first_token[last + 1]
                n += 1
    return runs[:n]


@njit
def align_in_runs(log_probs, best, words, runs, phrase, tokens, first_token, blank):  # type: ignore[no-untyped-def]
    """Makes arcs of entities that are looked up, each by forced alignment of its tokens.

    The frames of a run are those of its words and the blanks around them.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest of each frame.
        words: the `GreedyWords` of the utterance.
        runs: [n, 2] first token of the run in which each entity is looked for, and the token after its last.
        phrase: [n] index of its phrase in the automaton.
        tokens: [tokens of all entities].
        first_token: [n + 1]; those of entity ``k`` are ``tokens[first_token[k]:first_token[k + 1]]``.
        blank: id of the blank.

    Returns:
        `EntityArcs`; entities for whose tokens there are too few frames are not among them.
    """
    count = len(phrase)
    arcs = EntityArcs(
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.float32),
        np.zeros(count + 1, np.int32),
        np.empty(len(tokens), np.int32),
    )
    n = 0
    for k in range(count):
        own = tokens[first_token[k] : first_token[k + 1]]
        start = words.token_end[runs[k, 0] - 1] + 1 if runs[k, 0] > 0 else 0
        end = words.token_start[runs[k, 1]] if runs[k, 1] < len(words.token) else len(best)
        needed = len(own)
        for j in range(1, len(own)):
            needed += own[j] == own[j - 1]
        if end - start < needed:
            continue
        path = align(log_probs[start:end], own, blank)
        starts, _ = token_frames(path, len(own), blank)
        gap = np.float32(0)
        for t in range(starts[0], starts[-1] + 1):
            gap += log_probs[start + t, path[t]] - best[start + t]
        arcs.phrase[n], arcs.start[n], arcs.end[n] = phrase[k], start + starts[0], start + starts[-1]
        arcs.gap[n] = gap
        arcs.first_token[n + 1] = arcs.first_token[n] + len(own)
        arcs.tokens[arcs.first_token[n] : arcs.first_token[n + 1]] = own
        n += 1
    return EntityArcs(
        arcs.phrase[:n],
        arcs.start[:n],
        arcs.end[:n],
        arcs.gap[:n],
        arcs.first_token[: n + 1],
        arcs.tokens[: arcs.first_token[n]],
    )


def joined_arcs(first: EntityArcs, second: EntityArcs) -> EntityArcs:
    """The arcs of both."""
    return EntityArcs(
        np.concatenate([first.phrase, second.phrase]),
        np.concatenate([first.start, second.start]),
        np.concatenate([first.end, second.end]),
        np.concatenate([first.gap, second.gap]),
        np.concatenate([first.first_token, second.first_token[1:] + first.first_token[-1]]),
        np.concatenate([first.tokens, second.tokens]),
    )
