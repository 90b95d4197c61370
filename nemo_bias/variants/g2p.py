"""Generator `g2p`: spellings of the ways in which an entity is said, by how phones are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nemo_bias.decoder.sounds import word_sounds
from nemo_bias.entities import Entity
from nemo_bias.pronunciation.phones import PHONES, Phones
from nemo_bias.variants.graphemes import Graphemes, read_graphemes
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, in_english, register

MOST = 12  # of an entity
SHORTEST = 4  # phones; less are like too many words
COST = 2.0  # nats of a spelling that is as likely as the likeliest


@register("g2p", knows=in_english)
def g2p(settings: VariantSettings) -> Generator:
    """The likeliest spellings of each pronunciation; none where nobody knows how words are said."""
    graphemes = read_graphemes()

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        if settings.pronunciations is None:
            return [[] for _ in entities]
        said = word_sounds(settings.pronunciations).entities(entities)
        return [_variants(own, graphemes) for own in said]

    return generate


def _variants(pronunciations: Sequence[Phones], graphemes: Graphemes) -> list[Variant]:
    found: dict[str, float] = {}
    for phones in pronunciations:
        for text, cost in spelled(phones, graphemes, MOST) if len(phones) >= SHORTEST else ():
            found[text] = min(cost, found.get(text, math.inf))
    ranked = sorted(found.items(), key=lambda item: item[1])[:MOST]
    return [Variant(text, COST + cost - ranked[0][1], "g2p") for text, cost in ranked]


def spelled(phones: Phones, graphemes: Graphemes, most: int) -> list[tuple[str, float]]:
    """The likeliest spellings of phones as one word, and minus the logarithm of their probability."""
    ways = [("", 0.0)]
    for phone in phones:
        more: dict[str, float] = {}
        for text, cost in ways:
            for letters, share in graphemes.get(PHONES[phone], {}).items():
                whole, total = text + letters, cost - math.log(share)
                more[whole] = min(total, more.get(whole, math.inf))
        ways = sorted(more.items(), key=lambda item: item[1])[:most]
    return ways
