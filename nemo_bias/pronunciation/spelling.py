"""Words as they are said: names of letters, words that are spelled out, endings that change no stem."""

from __future__ import annotations

from nemo_bias.pronunciation.phones import PHONE_IDS, Phones, read_arpabet

_LETTER_NAMES = {
    **{"a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY"},
    **{"j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW"},
    **{"r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S"},
    **{"y": "W AY", "z": "Z IY"},
}
_LETTERS = {letter: read_arpabet(phones.split()) for letter, phones in _LETTER_NAMES.items()}
_SIBILANTS = frozenset(PHONE_IDS[phone] for phone in ("S", "Z", "SH", "ZH", "CH", "JH"))
_VOICELESS = frozenset(PHONE_IDS[phone] for phone in ("P", "T", "K", "F", "TH"))


def letter_names(word: str) -> Phones:
    """The names of a word's letters one after another, as for ``bbc``; characters other than a-z are left out."""
    return tuple(phone for letter in word for phone in _LETTERS.get(letter, ()))


def must_be_spelled(word: str) -> bool:
    """Whether a word of letters a-z has no vowel letter, so that it can only be said letter by letter."""
    return not set(word) & set("aeiouy")


def with_s(stem: Phones) -> Phones:
    """A stem and the ending of the plural and the possessive: S, Z or IH Z."""
    if stem[-1] in _SIBILANTS:
        return (*stem, PHONE_IDS["IH"], PHONE_IDS["Z"])
    return (*stem, PHONE_IDS["S" if stem[-1] in _VOICELESS else "Z"])


def stem_of_s(word: str) -> str:
    """The word without ``'s``, ``s'`` or the ``s`` of a plural; "" if it has none of them."""
    for ending in ("'s", "s'"):
        if word.endswith(ending):
            return word.removesuffix(ending)
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else ""
