"""What is written where a form of an entity is found: the entity as it is listed.

An arc holds the tokens of the form that was found, since these are the evidence. What is written has other tokens where the
form is a variant or in another case: they take the place of the arc's, in its frames and, if these are too few, in the
blanks around them. Where even those are too few, a form in another case is written as it was found, and a variant is not
taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import Places, token_path
from nemo_bias.decoder.frames import UtteranceFrames
from nemo_bias.decoder.spotter import EntityArcs
from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary
from nemo_bias.decoder.words import GreedyWords

SENTENCE_ENDS = ".?!"


class Writing(NamedTuple):
    """Arcs with the tokens that are written.

    Attributes:
        taken: [m] positions of the arcs that can be written.
        arcs: [m] they, with these tokens.
        places: [m] of the arcs.
        shown: [m] what is written.
    """

    taken: NDArray[np.int64]
    arcs: EntityArcs
    places: Places
    shown: tuple[str, ...]


def as_written(
    arcs: EntityArcs,
    places: Places,
    frames: UtteranceFrames,
    words: GreedyWords,
    entities: CompiledList,
    vocabulary: Vocabulary,
) -> Writing:
    """The arcs as they are written.

    Args:
        arcs: [n] of an utterance.
        places: of the arcs.
        frames: of the utterance.
        words: what is written there without entities.
        entities: the list.
        vocabulary: the model's tokens.
    """
    taken, shown, start, end, tokens, first_token = [], [], [], [], list[int](), [0]
    for arc in range(len(arcs.phrase)):
        form = entities.forms[arcs.phrase[arc]]
        text = entities.written_as[arcs.phrase[arc]]
        own: Sequence[int] = arcs.tokens[arcs.first_token[arc] : arcs.first_token[arc + 1]].tolist()
        span: tuple[int, int] | None = (int(arcs.start[arc]), int(places.end[arc]))
        if text != form and starts_sentence(form, text, words.token[: places.whole_low[arc]], vocabulary):
            text = form
        if text != form:
            marked = WORD_START + text if vocabulary.pieces[own[0]].startswith(WORD_START) else text
            others = vocabulary.shortest(marked.replace(" ", WORD_START))
            found = None if others is None else _frames_for(others, arc, arcs, places, frames, words, vocabulary)
            if others is not None and found is not None:
                own, span = others, found
            elif entities.variant_costs[arcs.phrase[arc]]:
                continue
            else:
                text = form
        assert span is not None
        taken.append(arc)
        shown.append(text)
        start.append(span[0])
        end.append(span[1])
        tokens += own
        first_token.append(len(tokens))
    kept = np.array(taken, np.int64)
    return Writing(
        kept,
        EntityArcs(
            arcs.phrase[kept],
            np.array(start, np.int32),
            arcs.end[kept],
            arcs.gap[kept],
            np.array(first_token, np.int32),
            np.array(tokens, np.int32),
        ),
        Places(
            *(places.low[kept], places.high[kept], places.whole_low[kept], places.whole_high[kept]),
            *(np.array(end, np.int32), places.after[kept], places.allowed[kept]),
        ),
        tuple(shown),
    )


def starts_sentence(form: str, phrase: str, before: NDArray[np.int32], vocabulary: Vocabulary) -> bool:
    """Whether a form is the listed phrase with a capital letter, after tokens that end a sentence."""
    if form != phrase[:1].upper() + phrase[1:]:
        return False
    texts = (vocabulary.text([token]) for token in before[::-1])  # of a space and unknown tokens it is empty
    return next(filter(None, texts), SENTENCE_ENDS)[-1] in SENTENCE_ENDS


def _frames_for(
    tokens: Sequence[int],
    arc: int,
    arcs: EntityArcs,
    places: Places,
    frames: UtteranceFrames,
    words: GreedyWords,
    vocabulary: Vocabulary,
) -> tuple[int, int] | None:
    """First and last frame of tokens that take the place of an arc's; None if they do not fit."""
    labels, start, end, blank = frames.labels, int(arcs.start[arc]), int(places.end[arc]), vocabulary.blank
    needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
    while end - start + 1 < needed and end + 1 < len(labels) and labels[end + 1] == blank:
        end += 1
    while end - start + 1 < needed and start > 0 and labels[start - 1] == blank:
        start -= 1
    if end - start + 1 < needed:
        return None
    low, high = places.low[arc], places.high[arc]
    joins_before = low > 0 and words.token_end[low - 1] == start - 1 and words.token[low - 1] == tokens[0]
    stays = high == places.whole_high[arc] and high < len(words.token)
    joins_after = stays and words.token_start[high] == end + 1 and words.token[high] == tokens[-1]
    path = token_path(frames.log_probs, np.array(tokens, np.int32), start, end, blank)
    return None if joins_before or joins_after or (path == blank).all() else (start, end)
