"""Generator `g2g`: spellings that are read alike, or nearly, by rules that turn letters into others.

The rules are those of the package's table (`graphemes`), of a table of one's own, or those that `scripts/learn_g2g.py` has
learned from what a recogniser writes. A word that is two words in a row may also be written as these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from nemo_bias.entities import Entity
from nemo_bias.variants.graphemes import DEFAULT_FILE, HEADER, read_graphemes, rules_of
from nemo_bias.variants.rewriting import Rewriter, read_rules
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, register

MOST = 12  # of an entity
FARTHEST = 5.0  # nats
SHORTEST = 4  # letters of a word; shorter ones sound like too many others


@register("g2g")
def g2g(settings: VariantSettings) -> Generator:
    """Other spellings of the phrases, in the letters of the table."""
    rewriter = rewriter_of(settings.g2g_file or DEFAULT_FILE)

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        return [
            [
                Variant(text, cost, "g2g")
                for text, cost in (rewriter.rewritings(phrase.lower(), MOST, FARTHEST) if len(phrase) >= SHORTEST else ())
                if settings.alphabet.issuperset(text.replace(" ", ""))
            ]
            for phrase in phrases
        ]

    return generate


@lru_cache(maxsize=4)
def rewriter_of(path: str | Path) -> Rewriter:
    """The rewriter of a file: a table of graphemes, or rules.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is neither; the message names file and line.
    """
    with open(path, encoding="utf-8") as file:
        head = next((line.strip().split("\t") for line in file if line.strip() and not line.startswith("#")), [])
    return Rewriter(rules_of(read_graphemes(path)) if tuple(head) == HEADER else read_rules(path))
