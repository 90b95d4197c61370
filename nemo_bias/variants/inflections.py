"""Generator `inflections`: the English possessive and plural of an entity, which are written as such."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_bias.entities import Entity
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, in_english, register

COST = 3.0  # nats; about one name in twenty has an ending
SIBILANTS = ("s", "x", "z", "ch", "sh")


@register("inflections", knows=in_english)
def inflections(settings: VariantSettings) -> Generator:
    """`katharina's` and `the sommerfelds`."""

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        return [
            [Variant(text, COST, "inflections", keeps_spelling=True) for text in inflected(phrase)] for phrase in phrases
        ]

    return generate


def inflected(phrase: str) -> tuple[str, ...]:
    """The possessive and the plural; none of what ends in a mark or digit.

    The possessive of what ends in s is only written, not heard; if the recogniser writes its apostrophe, that stays.
    """
    last = phrase.rpartition(" ")[2]
    if not last.isalpha() or not last.isascii() or len(last) < 2:
        return ()
    s, es = ("S", "ES") if last.isupper() and len(last) > 3 else ("s", "es")
    ends_in_sibilant = last.lower().endswith(SIBILANTS)
    possessive = () if last.lower().endswith("s") else (f"{phrase}'{s}",)
    return (*possessive, phrase + (es if ends_in_sibilant else s))
