"""What depends on the language of a list: what is known of it, how digits are said, and which letters are a pair."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

ENGLISH = "en"
AUTO = "auto"  # value of options that follow the language
_LONGEST_NUMBER = 9  # digits; longer numbers, such as those of telephones, are read digit by digit
_SIGNS = {ENGLISH: {"&": "and", "%": "percent", "@": "at", "+": "plus"}}
_LOWER = dict.fromkeys(("tr", "az"), str.maketrans({"I": "ı", "İ": "i"}))
_UPPER = dict.fromkeys(("tr", "az"), str.maketrans({"ı": "I", "i": "İ"}))


@dataclass(frozen=True)
class Language:
    """A language.

    Attributes:
        code: ISO 639-1, or 639-3 if it has none there.
    """

    code: str = ENGLISH

    @property
    def is_english(self) -> bool:
        """Whether what is known in English only may be used."""
        return self.code == ENGLISH

    @cached_property
    def has_numbers(self) -> bool:
        """Whether digits can be read."""
        from num2words import CONVERTER_CLASSES

        return self.code in CONVERTER_CLASSES

    @cached_property
    def has_frequencies(self) -> bool:
        """Whether wordfreq knows how common its words are, with the packages that are installed."""
        return self.code in known_frequencies() and splits_words(self.code)

    @property
    def signs(self) -> dict[str, str]:
        """The words for some signs."""
        return _SIGNS.get(self.code, {})

    def lower(self, text: str) -> str:
        """Small letters; in Turkish and Azerbaijani the dot of an i is kept, or its lack."""
        return text.translate(_LOWER.get(self.code, {})).lower()

    def upper(self, text: str) -> str:
        """Capital letters."""
        return text.translate(_UPPER.get(self.code, {})).upper()

    def number_words(self, number: str) -> str:
        """Words for digits, with or without decimal points; four digits that may be a year are read as one.

        Args:
            number: ASCII digits and points; `has_numbers` must hold.
        """
        first, *rest = number.split(".")
        if rest and not self.is_english:
            return " ".join(map(self._integer_words, (first, *rest)))
        if len(rest) == 1:  # 3.14
            return f"{self._integer_words(first)} point {self._digit_words(rest[0])}"
        if rest:  # version 1.10.3
            return " point ".join(map(self._integer_words, (first, *rest)))
        if len(first) == 4 and 1100 <= int(first) <= 2099 and first != "2000":
            return self._words(first, "year")
        return self._integer_words(first)

    def ordinal_words(self, digits: str) -> str:
        """Words for the number of a rank."""
        return self._words(digits, "ordinal") if len(digits) <= _LONGEST_NUMBER else self._digit_words(digits)

    def _integer_words(self, digits: str) -> str:
        if len(digits) > _LONGEST_NUMBER or (digits[0] == "0" and len(digits) > 1):
            return self._digit_words(digits)
        return self._words(digits)

    def _digit_words(self, digits: str) -> str:
        return " ".join(self._words(digit) for digit in digits)

    def _words(self, digits: str, to: str = "cardinal") -> str:
        from num2words import num2words

        try:
            words = str(num2words(int(digits), lang=self.code, to=to))
        except NotImplementedError:  # a language without years
            words = str(num2words(int(digits), lang=self.code))
        return words.replace("-", " ").replace(",", "")


@cache
def known_frequencies() -> frozenset[str]:
    """The codes of the languages of whose words wordfreq knows how common they are."""
    import wordfreq

    return frozenset(wordfreq.available_languages())


@cache
def splits_words(code: str) -> bool:
    """Whether wordfreq can split texts of a language into words: of some without spaces it needs further packages."""
    import wordfreq

    try:
        wordfreq.zipf_frequency("\u4e00 \u3042 \uac00", code)
    except ModuleNotFoundError:
        return False
    return True


@lru_cache(maxsize=32)
def language(code: str) -> Language:
    """The language of a code.

    Raises:
        ValueError: that is no code.
    """
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ValueError(f"language is {code!r}; give its code of two or three letters, such as en or de")
    return Language(code)
