"""From text to words as they are said: numbers, names of letters, words that are spelled out, and affixes."""

from __future__ import annotations

import re
import string
from typing import NamedTuple

from nemo_bias.entities import Entity, EntityList
from nemo_bias.normalization import normalize_entities
from nemo_bias.pronunciation.phones import PHONE_IDS, Phones, read_arpabet

_ALPHABET = frozenset(string.ascii_letters + "'")
_ACRONYM = re.compile(r"([A-Z]{2,})(?:'?s)?")

_LETTER_NAMES = {
    **{"a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY"},
    **{"j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW"},
    **{"r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S"},
    **{"y": "W AY", "z": "Z IY"},
}
_LETTERS = {letter: read_arpabet(phones.split()) for letter, phones in _LETTER_NAMES.items()}
_SIBILANTS = frozenset(PHONE_IDS[phone] for phone in ("S", "Z", "SH", "ZH", "CH", "JH"))
_VOICELESS = frozenset(PHONE_IDS[phone] for phone in ("P", "T", "K", "F", "TH"))
_O_PREFIX = read_arpabet(["OW"])


def split_words(text: str) -> list[str]:
    """The words of a text in letters a-z, A-Z and apostrophes, none of which is at an edge.

    Numbers, signs, accents and hyphens are read as `nemo_bias.normalization` does. Empty where that leaves other letters.
    """
    if not (text.isascii() and text.replace(" ", "").isalpha()):
        normalized = normalize_entities(EntityList((Entity(text),)), _ALPHABET)
        text = normalized.phrases[0] if normalized.phrases else ""
    return [word for part in text.split() if (word := part.strip("'"))]


class Affixes(NamedTuple):
    """A word and what is said before and after its stem.

    Attributes:
        stem: the word without them.
        prefix: phones.
        with_s: whether an ending ``'s`` or ``s`` follows.
    """

    stem: str
    prefix: Phones = ()
    with_s: bool = False

    def around(self, phones: Phones) -> Phones:
        """The phones of the word from those of the stem."""
        return self.prefix + (with_s(phones) if self.with_s else phones)


def affixes(word: str) -> Affixes:
    """Takes the possessive's ``'s`` and the ``o'`` of Irish names off a word in lower case, and all other apostrophes."""
    stem = word.removesuffix("'s")
    has_s = stem != word
    prefix = _O_PREFIX if stem.startswith("o'") and len(stem) > 2 else ()
    return Affixes(stem[2 if prefix else 0 :].replace("'", ""), prefix, has_s)


def singular(word: str) -> str:
    """What may be the singular of a word in lower case, "" if it does not look like a plural."""
    if word.endswith(("ses", "xes", "zes", "ches", "shes")) and not word.endswith(("rses", "nses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "aious" else ""


def with_s(stem: Phones) -> Phones:
    """A stem and the ending of the plural and the possessive: S, Z or IH Z."""
    if stem[-1] in _SIBILANTS:
        return (*stem, PHONE_IDS["IH"], PHONE_IDS["Z"])
    return (*stem, PHONE_IDS["S" if stem[-1] in _VOICELESS else "Z"])


def letter_names(word: str) -> Phones:
    """The names of a word's letters a-z one after another, as for ``bbc``."""
    return tuple(phone for letter in word for phone in _LETTERS[letter])


def acronym(word: str) -> str:
    """The capitals of a word such as ``BBC``, ``BBC's`` or ``CDs`` in lower case; "" for any other word."""
    match = _ACRONYM.fullmatch(word)
    return match[1].lower() if match else ""


def must_be_spelled(word: str) -> bool:
    """Whether a word of letters a-z is a single letter or has no vowel, so that it can only be said letter by letter."""
    return len(word) == 1 or not set(word) & set("aeiouy")


def spelled_share(word: str, in_capitals: bool, as_word: float) -> float:
    """How probable it is that a word of letters a-z with a vowel is spelled out.

    Args:
        word: in lower case.
        in_capitals: whether it is written in capitals. Their shares, by the number of letters, are ours.
        as_word: the probability of the best reading as a word. In lower case, words of 2 or 3 letters are perhaps spelled
            out where that is below 0.8: 92 of 555 such words of CMUdict are, by the readings of the G2P model.
    """
    if in_capitals:
        return {2: 0.8, 3: 0.8, 4: 0.4}.get(len(word), 0.2)
    return 0.17 if len(word) <= 3 and as_word < 0.8 else 0.0
