"""Texts to be spoken: sentences with slots, filled by names, without what must stay unheard.

The slots of a sentence are the places of ``{name}``, and in a line of a manifest those of its ``entities``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any, TypeVar

from nemo_bias.entities import EntityList, parse_entities, read_entities
from nemo_bias.evaluation.manifest import ManifestError, read_manifest
from nemo_bias.normalization import NormalizedList, normalize_entities

SLOT = "{name}"

_CONTENT_WORD = re.compile(r"(?<![\w'])[^\W\d_]{4,}(?![\w'])")
_WORD = re.compile(rf"{re.escape(SLOT)}|[\w']+")
_Item = TypeVar("_Item")


class SynthesisError(ValueError):
    """Speech that cannot be made as asked; the message reads ``reason; fix``."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence in lower case, cut at its slots.

    Attributes:
        pieces: the text before, between and after the slots; one more than there are slots.
        phrases: what stands in each slot, SLOT if it is empty.
    """

    pieces: tuple[str, ...]
    phrases: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence as it was read."""
        return self.filled(self.phrases)

    def filled(self, phrases: Iterable[str]) -> str:
        """The sentence with a phrase in each slot."""
        between = [*phrases, ""]
        return "".join(piece + phrase for piece, phrase in zip(self.pieces, between, strict=True))


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is said in one audio file.

    Attributes:
        number: its place in the order of speaking, from 0.
        text: the words, in lower case.
        entities: the distinct names among them, as the text writes them.
    """

    number: int
    text: str
    entities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """Phrases that must not be heard. A possessive ``'s`` makes no difference to a word.

    Attributes:
        phrases: the words of each phrase.
    """

    phrases: frozenset[tuple[str, ...]] = frozenset()

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of all phrases."""
        return frozenset(word for phrase in self.phrases for word in phrase)

    @cached_property
    def lengths(self) -> frozenset[int]:
        """The numbers of words that the phrases have."""
        return frozenset(map(len, self.phrases))

    def forbids_name(self, name: str) -> bool:
        """Whether a name shares a word with one of the phrases."""
        return not self.words.isdisjoint(_words(name))

    def forbids_sentence(self, text: str) -> bool:
        """Whether a text contains one of the phrases as whole words."""
        words = _words(text)
        return any(words[i : i + n] in self.phrases for n in self.lengths for i in range(len(words) - n + 1))


def read_sentences(path: str | Path) -> list[Sentence]:
    """Read sentences from a manifest (``.jsonl``, ``.json``, or a first line that opens with ``{"``) or a plain text file.

    Args:
        path: manifest with ``text``, and ``entities`` if it has any, or text with a sentence a line. An entity that does
            not occur in its text as whole words has no slot, since such a list may hold more than was said.

    Returns:
        The sentences in file order; the blank lines of a text file hold none.

    Raises:
        SynthesisError: a text is empty or has a brace other than ``{name}``, or there are no sentences.
        ManifestError, EntityListError: a line of a manifest is not valid.
        OSError: the file cannot be read.
    """
    if _is_manifest(path):
        sentences = [
            _cut(item["text"], [e.text for e in _entities(item, path)], path) for item in read_manifest(path, ["text"])
        ]
    else:
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise SynthesisError(f"{path}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
        sentences = [_cut(line, (), path) for line in lines if line.strip()]
    if not sentences:
        raise SynthesisError(f"{path}: holds no sentences; write one a line")
    return sentences


def writable_characters(sentences: Iterable[Sentence]) -> frozenset[str]:
    """The characters of names in sentences: those of the sentences themselves, the letters a-z and the apostrophe."""
    return frozenset(ascii_lowercase + "'").union(*(piece for sentence in sentences for piece in sentence.pieces))


def read_names(path: str | Path, alphabet: frozenset[str]) -> NormalizedList:
    """Read an entity list of any format and write it in an alphabet; see `normalize_entities`."""
    return normalize_entities(read_entities(path), alphabet)


def read_exclusion(paths: Iterable[str | Path], alphabet: frozenset[str]) -> Exclusion:
    """Collect the entities of manifests, written in an alphabet as names are.

    Raises:
        ManifestError, EntityListError: a line is not valid, or no line of a manifest has the field ``entities``.
        OSError: a manifest cannot be read.
    """
    phrases: set[tuple[str, ...]] = set()
    for path in paths:
        items = read_manifest(path)
        if not any("entities" in item for item in items):
            raise ManifestError(f"{path}: no line has a field 'entities'; give manifests that say what must stay out")
        entities = EntityList(tuple(entity for item in items for entity in _entities(item, path)))
        phrases.update(map(_words, normalize_entities(entities, alphabet).phrases))
    return Exclusion(frozenset(phrases - {()}))


def utterances(sentences: Sequence[Sentence], names: Sequence[str], insert: float, seed: int) -> Iterator[Utterance]:
    """Yield utterances without end: the sentences in random order, again and again, with other names each time.

    Args:
        sentences: what is spoken, each once before any is repeated.
        names: what fills the slots, each once before any is repeated. If there are none, the sentences keep their phrases.
        insert: probability that a name takes the place of a word of 4 or more letters in a sentence without slots.
        seed: decides all that is random.

    Raises:
        SynthesisError: a sentence has an empty slot and there are no names.
    """
    draw = Random(f"sentences {seed}")
    name_deck = _deck(names, Random(f"names {seed}"))
    for number, sentence in enumerate(_deck(sentences, draw)):
        if names and not sentence.phrases and draw.random() < insert:
            sentence = _opened(sentence, draw)
        phrases = tuple(next(name_deck) for _ in sentence.phrases) if names else sentence.phrases
        if SLOT in phrases:
            raise SynthesisError(f'"{sentence.text}" has a slot, but there are no names; give a list of names')
        yield Utterance(number, sentence.filled(phrases), tuple(dict.fromkeys(phrases)))


def _deck(items: Sequence[_Item], draw: Random) -> Iterator[_Item]:
    """All items in random order, then all again in another, without end."""
    while items:
        yield from draw.sample(items, len(items))


def _opened(sentence: Sentence, draw: Random) -> Sentence:
    """A sentence with a slot in place of a random content word; the same if it has none."""
    (text,) = sentence.pieces
    words = list(_CONTENT_WORD.finditer(text))
    if not words:
        return sentence
    word = draw.choice(words)
    return Sentence((text[: word.start()], text[word.end() :]), (SLOT,))


def _is_manifest(path: str | Path) -> bool:
    if Path(path).suffix.lower() in (".jsonl", ".json"):
        return True
    with open(path, "rb") as file:
        return file.readline().removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b'{"')


def _entities(item: dict[str, Any], path: str | Path) -> EntityList:
    """The entities of a manifest line: a list, or one string for a list of one."""
    entities = item.get("entities") or ()
    source = f'{path}: entities of "{item.get("text", "")}"'
    return parse_entities([entities] if isinstance(entities, str) else entities, source)


def _cut(text: str, entities: Iterable[str], path: str | Path) -> Sentence:
    text = " ".join(text.lower().split())
    if not text:
        raise SynthesisError(f"{path}: a line has an empty text; remove it")
    if set(text.replace(SLOT, "")) & set("{}"):
        raise SynthesisError(f'{path}: "{text}" has a brace that is not of {SLOT}; write {SLOT} for a slot')
    longest_first = sorted({" ".join(entity.lower().split()) for entity in entities}, key=len, reverse=True)
    phrases = "|".join(map(re.escape, longest_first)) or "(?!)"  # which matches nowhere
    parts = re.split(rf"({re.escape(SLOT)}|(?<![\w'])(?:{phrases})(?![\w']))", text)
    return Sentence(tuple(parts[0::2]), tuple(parts[1::2]))


def _words(text: str) -> tuple[str, ...]:
    """Words as exclusion compares them."""
    words = (word.strip("'").removesuffix("'s") for word in _WORD.findall(text))
    return tuple(word for word in words if word)
