"""Generator `spellings`: the ways of writing an entity that the list's author gives."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_bias.entities import Entity, EntityList
from nemo_bias.normalization import normalize_entities
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, register

COST = 1.0  # nats; nobody knows how often the recogniser writes them


@register("spellings")
def spellings(settings: VariantSettings) -> Generator:
    """The `spellings` of the entities, as the model can write them."""

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        return [[Variant(text, COST, "spellings") for text in _written(entity.spellings, settings)] for entity in entities]

    return generate


def _written(texts: Sequence[str], settings: VariantSettings) -> tuple[str, ...]:
    if not texts:
        return ()
    return normalize_entities(
        EntityList(tuple(Entity(text) for text in texts)), settings.alphabet, settings.language
    ).phrases
