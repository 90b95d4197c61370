"""The tokens of a recogniser, as the decoder sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

WORD_START = "▁"  # SentencePiece's mark: it stands where a space stands in the text


@dataclass(frozen=True)
class Vocabulary:
    """A CTC model's tokens and its blank.

    Attributes:
        pieces: the text of each token by id, with ``▁`` for a space; "" for a token without text (unknown, padding).
        blank: id of the CTC blank. NeMo puts it last: ``len(pieces)``.
    """

    pieces: tuple[str, ...]
    blank: int

    def __post_init__(self) -> None:
        if not 0 <= self.blank <= len(self.pieces):
            raise ValueError(f"blank id {self.blank} is outside 0..{len(self.pieces)}")

    @property
    def size(self) -> int:
        """Width V of the log-probs: all tokens and the blank."""
        return max(len(self.pieces), self.blank + 1)

    @cached_property
    def delimited(self) -> bool:
        """Whether words are separated by a token of their own, as in character models."""
        starts = [p for p in self.pieces if p.startswith(WORD_START)]
        return bool(starts) and all(p == WORD_START for p in starts)

    @cached_property
    def starts_word(self) -> NDArray[np.bool_]:
        """[V] whether the word before a token ends with it."""
        starts = np.zeros(self.size, dtype=np.bool_)
        starts[: len(self.pieces)] = [p.startswith(WORD_START) for p in self.pieces]
        return starts

    @cached_property
    def alphabet(self) -> frozenset[str]:
        """All characters that the tokens can write, without the word start."""
        return frozenset("".join(self.pieces)) - {WORD_START}

    def text(self, tokens: Iterable[int]) -> str:
        """The text that a sequence of tokens writes."""
        return "".join(self.pieces[t] for t in tokens).replace(WORD_START, " ").strip()

    def marked(self, phrase: str) -> str:
        """A phrase in the characters of the pieces: ``new york`` is ``▁new▁york``, or ``new▁york`` if delimited."""
        return ("" if self.delimited else WORD_START) + phrase.replace(" ", WORD_START)


def character_vocabulary(characters: Sequence[str], blank: int | None = None) -> Vocabulary:
    """The vocabulary of a character model whose labels are characters, the space among them."""
    pieces = tuple(WORD_START if c == " " else c for c in characters)
    return Vocabulary(pieces, len(pieces) if blank is None else blank)
