"""Where the entities of a training list are spoken: the targets of the adapter's own losses.

The transcript is aligned to the frames by the frozen recogniser itself (CTC forced alignment). An entity covers the frames
from one before its first token to one after its last, as far as the neighbouring words leave them; every other frame belongs
to the no-bias entry. Inside an entity each frame belongs to the token that is nearest in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.alignment import align, token_frames
from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary

NO_BIAS = -1  # the entity of a frame in which none is spoken


class Word(NamedTuple):
    """A word of a transcript.

    Attributes:
        text: its letters.
        first: position of its first token in the transcript.
        end: position after its last token.
    """

    text: str
    first: int
    end: int


class Mention(NamedTuple):
    """An entity of the catalogue in a transcript.

    Attributes:
        entity: index in the catalogue.
        first: position of its first token in the transcript.
        end: position after its last token.
    """

    entity: int
    first: int
    end: int


def words_of(tokens: Sequence[int], vocabulary: Vocabulary) -> list[Word]:
    """Groups the tokens of a transcript into words.

    Args:
        tokens: token ids.
        vocabulary: the recogniser's tokens.
    """
    words: list[Word] = []
    open_word = False
    for k, token in enumerate(tokens):
        piece = vocabulary.pieces[token]
        if vocabulary.delimited and piece == WORD_START:
            open_word = False
        elif open_word and not piece.startswith(WORD_START):
            words[-1] = Word(words[-1].text + piece, words[-1].first, k + 1)
        else:
            words.append(Word(piece.removeprefix(WORD_START), k, k + 1))
            open_word = True
    return words


class Targets(NamedTuple):
    """What is spoken in each of T frames.

    Attributes:
        entity: [T] the entity of the list, or ``NO_BIAS``.
        position: [T] the position of the spoken token inside it, 0 where there is none.
        label: [T] the token or blank of the aligned transcript.
    """

    entity: NDArray[np.int64]
    position: NDArray[np.int64]
    label: NDArray[np.int64]


def aligned_targets(
    log_probs: NDArray[np.float32], tokens: Sequence[int], mentions: Sequence[Mention], blank: int
) -> Targets | None:
    """What is spoken in each frame, by forced alignment.

    Args:
        log_probs: [T, V] of the recogniser without bias, natural logarithms.
        tokens: the transcript.
        mentions: the entities in it; where two overlap, the longer one counts, and of equal ones the first.
        blank: id of the CTC blank.

    Returns:
        The targets; None if the frames are too few for the transcript.
    """
    frames = len(log_probs)
    entity, position = np.full(frames, NO_BIAS, np.int64), np.zeros(frames, np.int64)
    array = np.asarray(tokens, np.int64)
    if len(array) + int((array[1:] == array[:-1]).sum()) > frames:
        return None
    if not len(array) or not mentions:
        return Targets(entity, position, np.full(frames, blank, np.int64))
    path = align(log_probs, array, blank)
    starts, ends = token_frames(path, len(array), blank)
    for mention in sorted(mentions, key=lambda m: (m.first - m.end, m.first)):
        first = max(starts[mention.first] - 1, ends[mention.first - 1] + 1 if mention.first else 0)
        last = min(ends[mention.end - 1] + 1, starts[mention.end] - 1 if mention.end < len(array) else frames - 1)
        if (entity[starts[mention.first] : ends[mention.end - 1] + 1] != NO_BIAS).any():
            continue
        covered = np.arange(first, last + 1)
        covered = covered[entity[covered] == NO_BIAS]  # a frame between two entities belongs to the one that came first
        inside = slice(mention.first, mention.end)
        distance = np.maximum(np.maximum(starts[inside] - covered[:, None], covered[:, None] - ends[inside]), 0)
        entity[covered] = mention.entity
        position[covered] = distance.argmin(axis=1)
    return Targets(entity, position, path.astype(np.int64))
