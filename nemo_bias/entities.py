"""Entity lists: the names, terms and phrases that a user wants recognised, and the files that hold them.

A file is UTF-8 with one entity a line; `nemo_bias.entity_files` has the formats.
"""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nemo_bias.entity_files import FORMATS, KEYS, InvalidError, read_items
from nemo_bias.entity_notes import suspicions
from nemo_bias.messages import short, suggestion

MAX_LENGTH = 200  # characters of a text or spelling; a longer one shows that the file is no list of phrases

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of a character


class EntityListError(ValueError):
    """An entity list that cannot be read; the message is ``FILE:LINE: reason; fix``."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A name, term or phrase to be recognised.

    Attributes:
        text: the phrase as it is to be written in the transcript.
        weight: how strongly it is biased relative to the other entities; 1 is normal, 0 is not at all. Below 0, it is kept
            out of the text where something else may have been said.
        spellings: other ways in which the recogniser may write what is said.
        pronunciations: phones separated by spaces.
        entity_class: the kind of entity, "" if none.
        line: 1-based line in its file, or place among the items; 0 if none.
        source: the file's path, or the name of the items; "" if none.
    """

    text: str
    weight: float = 1.0
    spellings: tuple[str, ...] = ()
    pronunciations: tuple[str, ...] = ()
    entity_class: str = ""
    line: int = 0
    source: str = ""

    @property
    def place(self) -> str:
        """Where the entity was read, such as ``names.txt:3``."""
        source = self.source or "entities"
        return f"{source}:{self.line}" if self.line else source


@dataclass(frozen=True)
class EntityList:
    """Entities with distinct texts, in the order of their file.

    Attributes:
        entities: the entities.
        notes: what a user should know about how the list was read, a sentence each.
    """

    entities: tuple[Entity, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entities)

    def __iter__(self) -> Iterator[Entity]:
        return iter(self.entities)


def read_entities(path: str | os.PathLike[str], file_format: str = "auto") -> EntityList:
    """Read an entity list from a file.

    ``auto`` goes by the suffix: ``.jsonl`` and ``.json`` are jsonl, ``.csv`` is csv, ``.tsv`` is aws if the header has
    ``Phrase``, else tsv. Any other file goes by its content: it is text unless several lines have the marks of another
    format, and then a note says what it was taken for. A wrong guess is set right with ``file_format``.

    Args:
        path: the file.
        file_format: one of FORMATS, or ``auto``.

    Returns:
        The list; entities that have the same text are merged, with a note.

    Raises:
        EntityListError: if the file cannot be read or a line of it is not valid in the format.
    """
    source = str(path)
    if file_format not in (*FORMATS, "auto"):
        reason = f'"{file_format}" is not a format{suggestion(str(file_format), (*FORMATS, "auto"))}'
        raise EntityListError(f"{source}: {reason}; use one of {', '.join(FORMATS)} or auto")
    try:
        items, notes = read_items(_read_text(path, source), os.path.splitext(source)[1].lower(), file_format)
    except InvalidError as error:
        raise EntityListError(f"{source}:{error.line}: {error}") from None
    return _collect(items, source, [f"{source}: {note}" for note in notes])


def parse_entities(items: Iterable[str | Mapping[str, object] | Entity], source: str = "entities") -> EntityList:
    """Make an entity list of Python items, or of the ``entities`` field of a manifest.

    Args:
        items: texts, mappings with the keys of the jsonl format, or entities. An entity that has a place keeps it.
        source: what errors and notes call the items. The line they name is the item's place, from 1.

    Returns:
        The list; entities that have the same text are merged, with a note.

    Raises:
        EntityListError: if an item is not valid.
    """
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise EntityListError(f"{source}: expected a list of entities, not {_type_name(items)}; put them into a list")
    return _collect(enumerate(items, 1), source, [])


def merged(first: Entity, second: Entity) -> Entity:
    """The first entity with the higher weight of the two, the spellings and pronunciations of both, and the first class."""
    return replace(
        first,
        weight=max(first.weight, second.weight),
        spellings=tuple(dict.fromkeys(first.spellings + second.spellings)),
        pronunciations=tuple(dict.fromkeys(first.pronunciations + second.pronunciations)),
        entity_class=first.entity_class or second.entity_class,
    )


def merge_note(first: Entity, second: Entity, why: str = "") -> str:
    """A sentence that says that the second entity is merged into the first, why, and which weight and class are lost."""
    note = f'{second.place}: "{second.text}" is merged with "{first.text}" of {first.place}{why}'
    if first.weight != second.weight:
        lost, kept = sorted((first.weight, second.weight))
        note += f"; the weight {lost:g} gives way to {kept:g}"
    if first.entity_class and second.entity_class and first.entity_class != second.entity_class:
        note += f'; its class "{second.entity_class}" gives way to "{first.entity_class}"'
    return note


def _collect(items: Iterable[tuple[int, object]], source: str, notes: list[str]) -> EntityList:
    """The list of distinct entities, with notes on those that were merged and on what looks wrong."""
    distinct: dict[str, Entity] = {}
    for line, item in items:
        try:
            entity = _entity(item, source, line)
        except InvalidError as error:
            raise EntityListError(f"{source}:{line}: {error}") from None
        first = distinct.setdefault(entity.text, entity)
        if first is not entity:
            distinct[entity.text] = merged(first, entity)
            notes.append(merge_note(first, entity))
    return EntityList(tuple(distinct.values()), (*notes, *suspicions(distinct.values())))


def _read_text(path: str | os.PathLike[str], source: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise EntityListError(f"{source}: cannot be read ({reason}); give the path of a readable file") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place = f"{source}:{data.count(10, 0, error.start) + 1}"  # 10 is the line feed
        raise EntityListError(f"{place}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from error


def _entity(item: object, source: str, line: int) -> Entity:
    """An entity from a string, a mapping with the keys of jsonl, or an entity, if it is valid."""
    if isinstance(item, str):
        return Entity(_clean(item, "text"), 1.0, (), (), "", line, source)
    if isinstance(item, Entity):
        if item.line:
            source, line = item.source, item.line
        values = (item.text, item.weight, item.spellings, item.pronunciations, item.entity_class)
        item = dict(zip(KEYS, values, strict=True))
    if not isinstance(item, Mapping):
        raise InvalidError(f'the entity is {_type_name(item)}; give a string or an object with the key "text"')
    for key in item:
        if key not in KEYS:
            raise InvalidError(f"{short(key)} is not a key{suggestion(str(key), KEYS)}; use {', '.join(KEYS)}")
    if "text" not in item:
        raise InvalidError('the key "text" is missing; add it')
    text = _clean(item["text"], "text")
    entity_class = item.get("class", "")
    return Entity(
        text,
        _weight(item.get("weight", 1.0)),
        # The text is always one of the ways to write an entity, so it is no further spelling.
        tuple(s for s in _forms(item.get("spellings", ()), "spelling") if s != text),
        _forms(item.get("pronunciations", ()), "pronunciation"),
        _clean(entity_class, "class") if entity_class != "" else "",
        line,
        source,
    )


def _clean(value: object, name: str) -> str:
    """A string without needless white space, if it is one that a list can hold."""
    if not isinstance(value, str):
        raise InvalidError(f"{name} is {_type_name(value)}; give a string")
    text = value.strip()
    if not text.isprintable() and (unsafe := _UNSAFE.search(text)):
        if unsafe[0] == "\t":
            raise InvalidError(f'{name} holds a tab; write a table in the tsv format, with the header "text<TAB>weight"')
        raise InvalidError(f"{name} holds the character U+{ord(unsafe[0]):04X}, which is not text; remove it")
    if "  " in text or not text.isprintable():  # the only white space that counts as printable is the space
        text = " ".join(text.split())
    if not text:
        raise InvalidError(f"{name} is empty; write it out or remove it")
    if len(text) > MAX_LENGTH and name != "pronunciation":
        raise InvalidError(f"{name} has {len(text)} characters; give phrases of at most {MAX_LENGTH}, one a line")
    return text


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidError(f"weight is {_type_name(value)}; give a number")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight):
        raise InvalidError(f"weight {weight:g} is out of range; give a finite number")
    return weight


def _forms(value: object, name: str) -> tuple[str, ...]:
    """The distinct spellings or pronunciations of a string or a sequence of strings."""
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        raise InvalidError(f"{name}s is {_type_name(value)}; give a string or a list of strings")
    forms = [value] if isinstance(value, str) else value
    return tuple(dict.fromkeys(_clean(form, name) for form in forms))


def _type_name(value: object) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", type(None): "null", str: "a string"}
    return names.get(type(value), "a number" if isinstance(value, numbers.Real) else f"of type {type(value).__name__}")
