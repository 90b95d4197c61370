"""Generator `readings`: other ways to read the numbers, signs, abbreviations and acronyms of an entity, in English.

`nemo_bias.normalization` writes an entity in one way: 747 is "seven hundred and forty seven". It may be said in several:
"seven forty seven", "seven four seven". A reading is found where it is said, and the entity written as it is listed; but if
the model has no digits, numbers are written as they are said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice, product

from num2words import num2words

from nemo_bias.entities import Entity, EntityList
from nemo_bias.normalization import normalize_entities
from nemo_bias.variants.variant import Generator, Variant, VariantSettings, in_english, register

COST = 1.0  # nats
MOST_READINGS = 8  # of an entity
LONGEST_ACRONYM = 5  # letters; longer words in capitals are words
ABBREVIATIONS = {  # of two words, the second is meant at the end of a phrase
    **{"dr": ("doctor", "drive"), "st": ("saint", "street"), "mt": ("mount",), "ft": ("fort", "feet"), "mr": ("mister",)},
    **{"mrs": ("missus",), "jr": ("junior",), "sr": ("senior",), "prof": ("professor",), "rev": ("reverend",)},
    **{"gen": ("general",), "col": ("colonel",), "sgt": ("sergeant",), "lt": ("lieutenant",), "capt": ("captain",)},
    **{"gov": ("governor",), "sen": ("senator",), "rep": ("representative",), "ave": ("avenue",), "rd": ("road",)},
    **{"blvd": ("boulevard",), "sq": ("square",), "apt": ("apartment",), "vs": ("versus",), "inc": ("incorporated",)},
    **{"corp": ("corporation",), "ltd": ("limited",), "co": ("company",), "dept": ("department",), "univ": ("university",)},
    **{"bros": ("brothers",), "intl": ("international",), "no.": ("number",), "feat": ("featuring",), "hwy": ("highway",)},
}
CURRENCIES = {"$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros"), "¥": ("yen", "yen")}
SIGNS = {
    **{"&": ("and", "n"), "+": ("plus", "and"), "@": ("at",), "%": ("percent",)},
    **{"#": ("number", "hashtag"), "°": ("degrees",)},
}
SCALES = "hundred|thousand|million|billion|trillion"
_ROMAN = re.compile(r"(?=[IVX])(X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}
_MONEY = re.compile(rf"([{''.join(CURRENCIES)}])\s?([0-9][0-9.,]*[0-9]|[0-9])(?:\s+({SCALES})\b)?", re.IGNORECASE)
_PIECE = re.compile(
    r"[0-9]+(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:\.[0-9]+)+|[0-9]+(?:st|nd|rd|th)\b|[0-9]+|[^\W\d_]+\.?|\S", re.IGNORECASE
)


@register("readings", knows=in_english)
def readings(settings: VariantSettings) -> Generator:
    """Other readings of the entities' texts, as the model can write them."""

    def generate(entities: Sequence[Entity], phrases: Sequence[str]) -> list[list[Variant]]:
        found: list[list[Variant]] = []
        for entity, phrase in zip(entities, phrases, strict=True):
            texts = EntityList(tuple(Entity(text) for text in readings_of(entity.text)))
            others = normalize_entities(texts, settings.alphabet).phrases if len(texts) else ()
            spelled_out = any(c.isdigit() and c not in settings.alphabet for c in entity.text)
            own = [Variant(text, COST, "readings", keeps_spelling=spelled_out) for text in others if text != phrase]
            found.append(own)
        return found

    return generate


def readings_of(text: str) -> tuple[str, ...]:
    """The ways to read a text that has numbers, signs, abbreviations or acronyms; none if it has not."""
    if text.isascii() and text.replace(" ", "").isalpha() and text.islower():
        words = text.split(" ")
        if not any(word in ABBREVIATIONS for word in words):
            return ()
    spoken = _MONEY.sub(_money, text)
    pieces = _PIECE.findall(spoken)
    all_capitals = text.isupper() and max(map(len, pieces)) > LONGEST_ACRONYM
    ways = [_ways(piece, k == 0, k == len(pieces) - 1, all_capitals) for k, piece in enumerate(pieces)]
    if spoken == text and all(len(way) == 1 for way in ways):
        return ()
    return tuple(" ".join(way) for way in islice(product(*ways), MOST_READINGS))


def _money(match: re.Match[str]) -> str:
    one, many = CURRENCIES[match[1]]
    return f"{match[2]} {match[3] or ''} {one if match[2] == '1' and not match[3] else many}"


def _ways(piece: str, first: bool, last: bool, all_capitals: bool) -> tuple[str, ...]:
    """The ways to say a word, a number or a sign; the first as `normalization` does."""
    if piece[0].isdigit():
        digits = piece.replace(",", "")
        return (piece, *_number_ways(digits)) if digits.isdecimal() else (piece,)
    if piece in SIGNS:
        return (piece, *SIGNS[piece])
    word = piece.lower()
    expanded = ABBREVIATIONS.get(word, ABBREVIATIONS.get(word.removesuffix("."), ()))
    if expanded:
        return (piece, *(expanded[-1:] if last else expanded[:1]))
    if not first and _ROMAN.fullmatch(piece):
        number = _roman(piece)
        return (piece, num2words(number), f"the {num2words(number, to='ordinal')}")
    if piece.isupper() and 2 <= len(piece) <= LONGEST_ACRONYM and piece.isalpha() and not all_capitals:
        return (piece, " ".join(piece))
    return (piece,)


def _roman(text: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in text]
    return sum(-v if k + 1 < len(values) and v < values[k + 1] else v for k, v in enumerate(values))


def _number_ways(digits: str) -> tuple[str, ...]:
    """Other ways to say digits: without "and", digit by digit, in pairs, and in hundreds."""
    ways = [num2words(int(digits)).replace(" and ", " ")] if len(digits) <= 9 else []
    if len(digits) == 4 and digits[0] != "0":
        ways += [_pairs(digits[:2], digits[2:]), num2words(int(digits))]
        if digits.endswith("00"):
            ways.append(f"{num2words(int(digits[:2]))} hundred")
    if len(digits) == 3 and digits[0] != "0":
        ways.append(_pairs(digits[0], digits[1:]))
    if len(digits) > 1:
        one_by_one = " ".join(num2words(int(digit)) for digit in digits)
        ways += [one_by_one, one_by_one.replace("zero", "oh")]
    elif digits == "0":
        ways += ["oh"]
    return tuple(dict.fromkeys(way.replace("-", " ").replace(",", "") for way in ways))


def _pairs(first: str, second: str) -> str:
    """Digits in pairs: "seven forty seven", "one oh five", "nineteen hundred"."""
    rest = "hundred" if second == "00" else f"oh {num2words(int(second))}" if second[0] == "0" else num2words(int(second))
    return f"{num2words(int(first))} {rest}"
