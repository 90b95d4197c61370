"""The variants of a list: those of all generators, less what would be mistaken for something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nemo_bias.decoder.frequencies import Frequencies
from nemo_bias.entities import Entity
from nemo_bias.variants.variant import GENERATORS, Variant, VariantSettings

MOST_VARIANTS = 12  # of an entity
COMMON = 4.0  # Zipf frequency from which a variant is a word of its own, not a misspelling
BILLION = 9.0  # the Zipf frequency of a word that is all of the text


@dataclass(frozen=True)
class VariantList:
    """The variants of a list's entities.

    Attributes:
        variants: [entities] those of each, the cheapest first. No text is that of an entity, or there twice.
        notes: a sentence for each variant that was left out because it is something else.
    """

    variants: tuple[tuple[Variant, ...], ...]
    notes: tuple[str, ...] = ()


def generate_variants(
    names: Sequence[str],
    entities: Sequence[Entity],
    phrases: Sequence[str],
    settings: VariantSettings,
    frequencies: Frequencies | None = None,
) -> VariantList:
    """Generates the variants of a list.

    They are written in the model's characters, in capitals if it writes nothing else. Left out are the phrases of other
    entities, what another entity has at no higher cost, what is common in ordinary text (`COMMON`; but not what the list's
    author gives), and all but the `MOST_VARIANTS` cheapest of an entity.

    Args:
        names: of the generators, see `GENERATORS`.
        entities: the list.
        phrases: [entities] each in the model's characters; they are distinct.
        settings: of the generators; those that do not know its language are not used.
        frequencies: tells how common words are; None: nobody knows.

    Raises:
        ValueError: there is no such generator, or a file of a generator is broken.
    """
    unknown = [name for name in names if name not in GENERATORS]
    if unknown:
        raise ValueError(f"variants has {unknown[0]!r}; choose among {', '.join(GENERATORS)}")
    used = [GENERATORS[name] for name in names if GENERATORS[name].knows(settings)]
    made = [generator.make(settings)(entities, phrases) for generator in used]
    every = [(variant, k) for of_name in made for k, own in enumerate(of_name) for variant in own]
    wanted = [(replace(each, text=text), k) for each, k in every if (text := _written(each.text, settings.alphabet))]
    owner = {phrase: k for k, phrase in enumerate(phrases)}
    kept: list[list[Variant]] = [[] for _ in phrases]
    notes = []
    for variant, k in sorted(wanted, key=lambda item: item[0].cost):
        other = owner.get(variant.text)
        if other == k or len(kept[k]) == MOST_VARIANTS:
            continue
        what = f'{entities[k].place}: "{variant.text}" ({variant.origin}) is no variant of "{entities[k].text}"'
        if other is not None:
            notes.append(f'{what}, as it is one of "{entities[other].text}", or that itself')
        elif variant.origin != "spellings" and not variant.keeps_spelling and _is_common(variant.text, frequencies):
            notes.append(f"{what}, as it is common in ordinary text")
        else:
            owner[variant.text] = k
            kept[k].append(variant)
    return VariantList(tuple(map(tuple, kept)), tuple(notes))


def _written(text: str, alphabet: frozenset[str]) -> str | None:
    """A text in the case that an alphabet can write; None if there is none."""
    cases = (text, text.upper(), text.lower())
    return next((case for case in cases if alphabet.issuperset(case.replace(" ", ""))), None)


def _is_common(text: str, frequencies: Frequencies | None) -> bool:
    """Whether the words of a text, taken for independent, are as frequent as a single word with the frequency `COMMON`."""
    return frequencies is not None and sum(BILLION - frequencies(word) for word in text.lower().split()) < BILLION - COMMON
