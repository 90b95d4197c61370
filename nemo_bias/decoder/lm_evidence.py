"""What a language model says of an entity in the place of what is written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary
from nemo_bias.decoder.word_trie import END

LANGUAGE_TERMS = {
    "language": "nats by which the language model takes the sentence for likelier with the phrase than as it is written; of "
    "words that it does not know, or knows as rare, by their class",
}


class WrittenSentence:
    """A sentence whose words a language model compares with others.

    Args:
        model: the language model.
        vocabulary: the recogniser's tokens.
        tokens: of the sentence.
    """

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, tokens: Sequence[int]) -> None:
        self._model = model
        self._pieces = [vocabulary.pieces[token] for token in tokens]
        starts = [k for k, piece in enumerate(self._pieces) if k == 0 or piece.startswith(WORD_START)]
        self._first_token = [*starts, len(tokens)]
        words = ["".join(self._pieces[a:b]) for a, b in pairwise(self._first_token)]
        self._numbers = [self._number(word) for word in words] + [END]
        self._states: list[Any] = [model.start]
        self._total = [0.0]
        for number in self._numbers:
            score, state = (0.0, self._states[-1]) if number is None else model.score(self._states[-1], number)
            self._states.append(state)
            self._total.append(self._total[-1] + score)

    def _number(self, word: str) -> int | None:
        """The number of a word; None if it has no letters."""
        return self._model.number(word) if self._model.speller.key(word) else None

    def gain(self, low: int, high: int, phrase: str, apart: bool, unigram: float) -> float:
        """Nats by which the model takes the sentence for likelier with a phrase in the place of some tokens.

        Args:
            low: the first of the tokens.
            high: the token after their last.
            phrase: what takes their place.
            apart: whether a space comes before it.
            unigram: log-probability of the phrase's class, nats.
        """
        begin = bisect_right(self._first_token, low) - 1  # of the words, or their end
        end = bisect_left(self._first_token, high)
        head, tail = self._pieces[self._first_token[begin] : low], self._pieces[high : self._first_token[end]]
        text = "".join([*head, WORD_START if apart else "", phrase, *tail])
        state, total = self._states[begin], 0.0
        for word in text.replace(WORD_START, " ").split():
            number = self._number(word)
            if number is not None:
                score, state = self._model.score(state, number, unigram)
                total += score
        at = end
        while at < len(self._numbers) and state != self._states[at]:
            if (number := self._numbers[at]) is not None:
                score, state = self._model.score(state, number)
                total += score
            at += 1
        return total - (self._total[at] - self._total[begin])
