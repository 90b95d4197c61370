"""Writes accepted arcs into the greedy label path, and leaves everything else as it is.

An arc takes the place of the greedy words that share a frame with it, except for a word before or after others that it only
cuts: that keeps its other frames. If it takes the place of a part of a word, the rest stays if it is a word, too: "the" of
"theagons", where "wagons" is written; but nothing of "schiller", where "shiller" is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.evidence import Places, settle, token_path, word_start_in
from nemo_bias.decoder.frames import NEVER, UtteranceFrames
from nemo_bias.decoder.frequencies import Frequencies
from nemo_bias.decoder.spotter import EntityArcs
from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary
from nemo_bias.decoder.words import GreedyWords

LEAST_FREQUENCY = 3.0  # of a word that may stay of a longer one, on the Zipf scale: once in a million words


class _Arc(NamedTuple):
    """An arc, and what it takes the place of, see `Places`."""

    tokens: NDArray[np.int32]
    start: int  # frames
    end: int
    whole_low: int  # greedy tokens
    low: int
    high: int
    whole_high: int


class Rewriter:
    """Writes arcs.

    Args:
        vocabulary: the model's tokens.
        frequencies: of ordinary words; None: any two letters may be a word.
    """

    def __init__(self, vocabulary: Vocabulary, frequencies: Frequencies | None) -> None:
        self._vocabulary = vocabulary
        self._frequencies = frequencies

    def __call__(
        self,
        frames: UtteranceFrames,
        words: GreedyWords,
        arcs: EntityArcs,
        places: Places,
        chosen: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        """The label path of an utterance with some arcs in the place of what they replace.

        Args:
            frames: of the utterance.
            words: what is written there without entities.
            arcs: that may be written.
            places: of the arcs.
            chosen: arcs that do not overlap, in their order.

        Returns:
            [T] labels. Frames outside the words that the arcs replace are unchanged.
        """
        path = frames.labels.copy()
        row = [_arc(arcs, places, number) for number in chosen.tolist()]
        row = [self._without_cut_words(*three, words) for three in zip([None, *row], row, [*row[1:], None], strict=False)]
        standing = self._vocabulary.blank  # the last token that stands in place of the words that the last arc replaces
        for before, arc, after in zip([None, *row], row, [*row[1:], None], strict=False):
            standing = self._make_room(path, frames, words, arc, before, after, standing)
        for arc in row:
            tokens = token_path(frames.log_probs, arc.tokens, arc.start, arc.end, self._vocabulary.blank)
            path[arc.start : arc.end + 1] = tokens
        return path

    def _without_cut_words(self, before: _Arc | None, arc: _Arc, after: _Arc | None, words: GreedyWords) -> _Arc:
        """An arc between two others, without words beside others that it only cuts."""
        if (before is None or before.whole_high <= arc.whole_low) and self._cuts_first(arc, words):
            arc = arc._replace(low=arc.low + 1, whole_low=arc.low + 1)
        if (after is None or arc.whole_high <= after.whole_low) and self._cuts_last(arc, words):
            arc = arc._replace(high=arc.high - 1, whole_high=arc.high - 1)
        return arc

    def _make_room(
        self,
        path: NDArray[np.int32],
        frames: UtteranceFrames,
        words: GreedyWords,
        arc: _Arc,
        before: _Arc | None,
        after: _Arc | None,
        standing: int,
    ) -> int:
        """Clears a path of what an arc between two others takes the place of; returns the last token that stands there."""
        blank, token = self._vocabulary.blank, words.token
        if before is None or before.whole_high <= arc.whole_low:  # no word is replaced by both
            start = arc.whole_low
            if start < arc.low and self._vocabulary.pieces[token[start]] == WORD_START:  # may be a word's, or the entity's
                start += 1
            preceding = token[start - 1] if start > 0 else blank
            if before is not None and before.whole_high == start:
                preceding = standing
            rest = range(start, arc.low)
            if rest and not self._is_word(token[rest]) and self._can_go(rest, frames, words, preceding, arc.tokens[0]):
                arc = arc._replace(low=start)
        following = token[arc.whole_high] if arc.whole_high < len(token) else blank
        if after is not None and after.low <= arc.whole_high:
            arc, following = arc._replace(whole_high=max(arc.high, after.low)), after.tokens[0]
        restart = self._begin_rest(path, frames, words, arc, following)
        for k in range(arc.low, restart):
            path[words.token_start[k] : words.token_end[k] + 1] = blank
        return int(arc.tokens[-1] if restart == arc.whole_high else token[arc.whole_high - 1])

    def _begin_rest(
        self, path: NDArray[np.int32], frames: UtteranceFrames, words: GreedyWords, arc: _Arc, following: int
    ) -> int:
        """Lets what is left of a word after an arc begin one of its own, if it stays; returns the first token that does."""
        if arc.high == arc.whole_high:
            return arc.whole_high
        blank, boundaries, last = self._vocabulary.blank, self._vocabulary.boundaries, arc.tokens[-1]
        context = blank, boundaries
        _, k = settle(frames.plain, frames.plain_best, words, arc.high, arc.whole_high, last, following, *context)
        if k == arc.whole_high:
            return arc.whole_high
        neighbours = last if k == arc.high else blank, words.token[k + 1] if k + 1 < arc.whole_high else following
        begins = word_start_in(frames.plain, words.token_start[k], *neighbours, boundaries)
        rest = range(k, arc.whole_high)
        as_heard = self._text([begins]) == self._text(words.token[k : k + 1])
        if not (as_heard and self._is_word(words.token[rest])) and self._can_go(rest, frames, words, last, following):
            return arc.whole_high
        path[words.token_start[k] : words.token_end[k] + 1] = blank
        path[words.token_start[k]] = begins
        return int(k)

    def _cuts_first(self, arc: _Arc, words: GreedyWords) -> bool:
        """Whether an arc only cuts the first of several words."""
        if arc.high - arc.low < 2 or words.token_start[arc.low] >= arc.start:
            return False
        own, following = words.token[arc.low], words.token[arc.low + 1]
        return own != arc.tokens[0] and self._divided(own, following) and self._divided(own, arc.tokens[0])

    def _cuts_last(self, arc: _Arc, words: GreedyWords) -> bool:
        """Whether an arc only cuts the last of several words."""
        if arc.high - arc.low < 2 or words.token_end[arc.high - 1] <= arc.end:
            return False
        own, preceding = words.token[arc.high - 1], words.token[arc.high - 2]
        return own != arc.tokens[-1] and self._divided(preceding, own) and self._divided(arc.tokens[-1], own)

    def _divided(self, first: int, second: int) -> bool:
        """Whether a word boundary lies between two tokens."""
        boundaries = self._vocabulary.boundaries
        return bool(boundaries.between[boundaries.last[first], boundaries.first[second]])

    def _text(self, tokens: Iterable[int]) -> str:
        return self._vocabulary.text(tokens).lower()

    def _is_word(self, tokens: NDArray[np.int32]) -> bool:
        text = self._text(tokens)
        return len(text) > 1 and (self._frequencies is None or self._frequencies(text) >= LEAST_FREQUENCY)

    def _can_go(self, rest: range, frames: UtteranceFrames, words: GreedyWords, before: int, after: int) -> bool:
        """Whether blanks are possible in place of tokens, and a word boundary then lies between their neighbours."""
        spoken = np.concatenate([np.arange(words.token_start[k], words.token_end[k] + 1) for k in rest])
        possible = (frames.plain[spoken, self._vocabulary.blank] > NEVER).all()
        return bool(possible) and self._divided(before, after)


def _arc(arcs: EntityArcs, places: Places, number: int) -> _Arc:
    bounds = (column[number] for column in (places.whole_low, places.low, places.high, places.whole_high))
    tokens = arcs.tokens[arcs.first_token[number] : arcs.first_token[number + 1]]
    return _Arc(tokens, int(arcs.start[number]), int(places.end[number]), *map(int, bounds))
