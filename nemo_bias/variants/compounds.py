"""Generator `compounds`: words that may be written as two, and two that may be written as one.

A recogniser that does not know `nightshade` may write `night shade`, and `shell fish` may be `shellfish` to it. A word is
parted where both parts are words of ordinary text; all words of a phrase may be joined in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nemo_bias.decoder.frequencies import frequent_words
from nemo_bias.entities import Entity
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, register

PART_COST, JOIN_COST = 3.0, 2.5  # nats
WORD, SHORT_WORD = 3.5, 5.0  # Zipf frequency that makes a part a word; a part of two letters
SHORTEST = 6  # letters of a word that is parted


@register("compounds")
def compounds(settings: VariantSettings) -> Generator:
    """The phrases with one word parted, or two joined; without word frequencies, only joined."""
    source = settings.word_frequencies
    known = frequent_words(source, WORD) if source else frozenset()
    short = frequent_words(source, SHORT_WORD) if source else frozenset()

    def parted(word: str) -> Iterator[str]:
        for k in range(2, len(word) - 1 if len(word) >= SHORTEST else 0):
            parts = word[:k], word[k:]
            if all(part.lower() in (short if len(part) < 3 else known) for part in parts):
                yield " ".join(parts)

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        found = []
        for phrase in phrases:
            words = phrase.split(" ")
            own = [
                Variant(" ".join([*words[:k], apart, *words[k + 1 :]]), PART_COST, "compounds")
                for k, word in enumerate(words)
                for apart in parted(word)
            ]
            own += [
                Variant(" ".join([*words[:k], words[k] + words[k + 1], *words[k + 2 :]]), JOIN_COST, "compounds")
                for k in range(len(words) - 1)
                if len(words[k]) > 1 and len(words[k + 1]) > 1
            ]
            found.append(own)
        return found

    return generate
