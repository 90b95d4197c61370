"""Generator `g2g`: spellings that are read alike, or nearly, by rules that turn letters into others.

The rules are those of the package's table (`graphemes`), of a table of one's own, or those that `scripts/learn_g2g.py` has
learned from what a recogniser writes. A word that is two words in a row may also be written as these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from nemo_bias.entities import Entity
from nemo_bias.messages import readable
from nemo_bias.variants.graphemes import DEFAULT_FILE, HEADER, read_graphemes, rules_of
from nemo_bias.variants.rewriting import Rewriter, read_rules
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, in_english, register

MOST = 6  # of an entity
COST = math.log(4)  # nats: a name that is not written as it is listed is written in another spelling, one time in four
FARTHEST = 5.0  # nats
SHORTEST = 4  # letters of a word; shorter ones sound like too many others


def knows_letters(settings: VariantSettings) -> bool:
    """The package's table is one of English."""
    return settings.g2g_file is not None or in_english(settings)


@register("g2g", knows=knows_letters)
def g2g(settings: VariantSettings) -> Generator:
    """Other spellings of the phrases, in the letters of the table."""
    file = settings.g2g_file or DEFAULT_FILE
    rewriter_of(file)  # a broken one is an error even for an empty list

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        return [
            [
                Variant(text, COST + cost, "g2g")
                for text, cost in (_rewritings(file, phrase.lower()) if len(phrase) >= SHORTEST else ())
            ]
            for phrase in phrases
        ]

    return generate


@lru_cache(maxsize=100_000)  # lists of utterances have many names in common
def _rewritings(file: str | Path, phrase: str) -> tuple[tuple[str, float], ...]:
    return tuple(rewriter_of(file).rewritings(phrase, MOST, FARTHEST - COST))


@lru_cache(maxsize=4)
def rewriter_of(path: str | Path) -> Rewriter:
    """The rewriter of a file: a table of graphemes, or rules.

    Raises:
        ValueError: it cannot be read, or is neither; the message names file and line.
    """
    with readable("g2g_file", path), open(path, encoding="utf-8") as file:
        head = next((line.strip().split("\t") for line in file if line.strip() and not line.startswith("#")), [])
    if not head:
        raise ValueError(f"g2g_file {path}: it has no rules; leave g2g_file out for those of the package")
    return Rewriter(rules_of(read_graphemes(path)) if tuple(head) == HEADER else read_rules(path))
