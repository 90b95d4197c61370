"""The tokens of a recogniser, as the decoder sees them, and where words begin and end in them.

*Word boundaries.* An entity stands in a text only as whole words. Between two neighbouring characters lies a word boundary

- at a space (``▁``), and at the start and the end of the text;
- before and after a punctuation mark or symbol;
- before an apostrophe, so that an ending may follow (``carling`` in ``carling's``), but not after it (no ``brien`` in
  ``o'brien``); an apostrophe after a space is a quotation mark;
- before and after a letter of a script that is written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
  Tibetan).

Nowhere else: not between two letters or digits, and never before a combining mark.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD_START = "▁"  # SentencePiece's mark: it stands where a space stands in the text
APOSTROPHES = "'’ʼ"

# Classes of characters, for word boundaries; EDGE is the start and the end of a text.
CLASSES = EDGE, SPACE, LETTER, MARK, APOSTROPHE, UNSPACED, COMBINING = range(7)

_UNSPACED_SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}


class Boundaries(NamedTuple):
    """Word boundaries between tokens, for compiled code.

    Attributes:
        first: [V] class of each token's first character; EDGE for a token without text.
        last: [V] class of its last character.
        between: [classes, classes] whether a word boundary lies between a character of one class and one of another.
        opens: [classes, classes] whether a token of the second class may begin a word of its own after one of the first:
            as `between`, but a lone ``▁`` belongs to the word that follows, where tokens with ``▁`` begin words.
    """

    first: NDArray[np.int8]
    last: NDArray[np.int8]
    between: NDArray[np.bool_]
    opens: NDArray[np.bool_]


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
    def boundaries(self) -> Boundaries:
        """Where words may begin and end."""
        first, last = np.full(self.size, EDGE, np.int8), np.full(self.size, EDGE, np.int8)
        for token, piece in enumerate(self.pieces):
            if piece and token != self.blank:
                first[token], last[token] = character_class(piece[0]), character_class(piece[-1])
                if last[token] == APOSTROPHE and len(piece) > 1 and piece[-2] == WORD_START:
                    last[token] = MARK
        between = np.zeros((len(CLASSES), len(CLASSES)), np.bool_)
        for apart in (EDGE, SPACE, MARK, UNSPACED):
            between[apart, :] = between[:, apart] = True
        between[:, APOSTROPHE], between[:, COMBINING] = True, False
        opens = between.copy()
        if not self.delimited:
            opens[SPACE, :] = False
            opens[SPACE, SPACE] = True
        return Boundaries(first, last, between, opens)

    @cached_property
    def joins_words(self) -> bool:
        """Whether a word may begin without a space before it, so that entities are looked for without ``▁``, too."""
        classes = {character_class(c) for c in self.alphabet}
        return self.delimited or MARK in classes or UNSPACED in classes

    @cached_property
    def alphabet(self) -> frozenset[str]:
        """All characters that the tokens can write, without the word start."""
        return frozenset("".join(self.pieces)) - {WORD_START}

    @cached_property
    def writes_both_cases(self) -> bool:
        """Whether the tokens hold upper-case and lower-case letters."""
        return any(c.isupper() for c in self.alphabet) and any(c.islower() for c in self.alphabet)

    def text(self, tokens: Iterable[int]) -> str:
        """The text that a sequence of tokens writes."""
        return "".join([self.pieces[t] for t in tokens]).replace(WORD_START, " ").strip()

    def marked(self, phrase: str) -> tuple[str, ...]:
        """A phrase in the characters of the pieces, in each way that it may stand in a text.

        ``new york`` is ``▁new▁york``, and also ``new▁york`` where a word may begin without a space.
        """
        bare = phrase.replace(" ", WORD_START)
        if self.delimited:
            return (bare,)
        return (WORD_START + bare, bare) if self.joins_words else (WORD_START + bare,)

    def shortest(self, characters: str) -> tuple[int, ...] | None:
        """The fewest tokens that write a string of piece characters; None if they cannot."""
        ways: list[tuple[int, ...] | None] = [()] + [None] * len(characters)
        for end in range(1, len(characters) + 1):
            for start in range(max(0, end - self._longest_piece), end):
                token, before = self._tokens.get(characters[start:end]), ways[start]
                if token is not None and before is not None:
                    way, best = (*before, token), ways[end]
                    if best is None or len(way) < len(best):
                        ways[end] = way
        return ways[-1]

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {p: t for t, p in reversed(list(enumerate(self.pieces))) if p and t != self.blank}

    @cached_property
    def _longest_piece(self) -> int:
        return max(map(len, self.pieces), default=0)


@cache
def character_class(character: str) -> int:
    """The class of a character of a piece."""
    if character == WORD_START:
        return SPACE
    if character in APOSTROPHES:
        return APOSTROPHE
    category = unicodedata.category(character)
    if category[0] == "M":
        return COMBINING
    if category[0] in "PSZ":
        return MARK
    return UNSPACED if unicodedata.name(character, "").split(" ")[0] in _UNSPACED_SCRIPTS else LETTER


def character_vocabulary(characters: Sequence[str], blank: int | None = None) -> Vocabulary:
    """The vocabulary of a character model whose labels are characters, the space among them."""
    pieces = tuple(WORD_START if c == " " else c for c in characters)
    return Vocabulary(pieces, len(pieces) if blank is None else blank)
