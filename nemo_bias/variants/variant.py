"""What a variant is, and how generators of variants are registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nemo_bias.entities import Entity
from nemo_bias.languages import ENGLISH


@dataclass(frozen=True, slots=True)
class Variant:
    """A further form of an entity: if it is found, the entity is.

    Attributes:
        text: the form, in the model's characters.
        cost: nats, above 0: minus the logarithm of how often the recogniser writes it where the entity is said.
        origin: the generator that it comes from.
        keeps_spelling: whether the form itself is written; otherwise the entity's phrase is.
    """

    text: str
    cost: float
    origin: str
    keeps_spelling: bool = False


@dataclass(frozen=True)
class VariantSettings:
    """What generators may need beside the entities.

    Attributes:
        alphabet: the characters that the model's tokens can write.
        language: of the entities.
        pronunciations: the decoding option, or what it stands for; None: nothing is known of how words are said.
        word_frequencies: the decoding option, or what it stands for; None: nothing is known of how common words are.
        g2g_file: rewriting rules in place of the package's table; None: that table.
    """

    alphabet: frozenset[str]
    language: str = ENGLISH
    pronunciations: str | None = None
    word_frequencies: str | None = None
    g2g_file: str | None = None


# From entities and their phrases, in the model's characters, to the variants of each.
Generator = Callable[[Sequence[Entity], Sequence[str]], Sequence[Sequence[Variant]]]
Make = Callable[[VariantSettings], Generator]


class Registered(NamedTuple):
    """A generator that is known by a name.

    Attributes:
        make: makes it from the settings.
        knows: whether it knows the language of the settings.
    """

    make: Make
    knows: Callable[[VariantSettings], bool]


GENERATORS: dict[str, Registered] = {}


def in_any_language(settings: VariantSettings) -> bool:
    """For generators that need to know nothing of the language."""
    return True


def in_english(settings: VariantSettings) -> bool:
    """For generators that know English only."""
    return settings.language == ENGLISH


def register(name: str, knows: Callable[[VariantSettings], bool] = in_any_language) -> Callable[[Make], Make]:
    """A decorator that makes a generator known by a name, by which the decoding option `variants` switches it on.

    It stands before what makes the generator from the settings. `Variant.origin` is the name.

    Args:
        name: of the generator.
        knows: whether the generator knows the language of the settings. If not, it is not used, and the log says so.

    Raises:
        ValueError: another generator has the name.
    """

    def registered(make: Make) -> Make:
        if name in GENERATORS:
            raise ValueError(f"there is a generator of variants called {name!r} already")
        GENERATORS[name] = Registered(make, knows)
        return make

    return registered
