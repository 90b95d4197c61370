"""Entity lists: the names, terms and phrases that a user wants recognised, and the files that hold them.

A file is UTF-8 with one entity a line; a blank line holds none. The formats:

- ``text``: the phrase alone. NeMo's key-phrase files are of this kind.
- ``tsv``: tab separated, with a header among ``text weight spellings pronunciations class``. ``text`` is required;
  several spellings or pronunciations are separated by ``|``. Quotation marks have no special meaning.
- ``jsonl``: a JSON object a line with the keys of ``tsv``, or a bare JSON string.
- ``ctc_ws``: the context file of NeMo's CTC word spotter, ``word_spelling1_spelling2``.
- ``sherpa``: sherpa-onnx hotwords, ``phrase :score`` with an optional score. The weight is the score over 1.5,
  sherpa's default score.
- ``aws``: an Amazon Transcribe vocabulary table, tab separated, with a header among ``Phrase SoundsLike IPA DisplayAs``.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

MAX_LENGTH = 200  # characters of a text or spelling; a longer one shows that the file is no list of phrases
SHERPA_SCORE = 1.5  # sherpa-onnx's default hotwords score, which is our weight 1

_KEYS = ("text", "weight", "spellings", "pronunciations", "class")
_TABLES = {"tsv": _KEYS, "aws": ("Phrase", "SoundsLike", "IPA", "DisplayAs")}  # columns; the first is required
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_SCORED_LINE = re.compile(rf"[ \t]:{_NUMBER}[ \t\r]*$", re.MULTILINE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of a character


class EntityListError(ValueError):
    """An entity list that cannot be read; the message is ``FILE:LINE: reason; fix``."""


class _InvalidError(ValueError):
    """``reason; fix`` for an entity whose place the caller knows."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A name, term or phrase to be recognised.

    Attributes:
        text: the phrase as it is to be written in the transcript.
        weight: how strongly it is biased relative to the other entities, >= 0; 1 is normal, 0 is not at all.
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

    ``auto`` goes by the suffix: ``.jsonl`` and ``.json`` are jsonl, ``.tsv`` is aws if the header has ``Phrase``, else
    tsv. Any other file goes by its content: a tab-separated header with ``Phrase`` or ``text`` means aws or tsv, a first
    line that opens with ``{"`` jsonl, a line that ends in `` :NUMBER`` sherpa, an underscore ctc_ws, and anything else
    text. A guess from the content other than text is noted; a wrong one is set right with ``file_format``.

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
        reason = f'"{file_format}" is not a format{_suggestion(str(file_format), (*FORMATS, "auto"))}'
        raise EntityListError(f"{source}: {reason}; use one of {', '.join(FORMATS)} or auto")
    content = _read_text(path, source)
    if not content.strip():
        return EntityList((), (f"{source}: the file holds no entities",))
    notes = []
    if file_format == "auto":
        file_format, sign = _guess_format(source, content)
        if sign:
            notes.append(f"{source}: read in the {file_format} format because {sign}; if that is wrong, give the format")
    return _collect(_parse_lines(source, content, file_format), notes)


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
    entities = []
    for number, item in enumerate(items, 1):
        try:
            entities.append(_entity(item, source, number))
        except _InvalidError as error:
            raise EntityListError(f"{source}:{number}: {error}") from None
    return _collect(entities, [])


def merged(first: Entity, second: Entity) -> Entity:
    """The first entity with the higher weight of the two, the spellings and pronunciations of both, and the first class."""
    return replace(
        first,
        weight=max(first.weight, second.weight),
        spellings=tuple(dict.fromkeys(first.spellings + second.spellings)),
        pronunciations=tuple(dict.fromkeys(first.pronunciations + second.pronunciations)),
        entity_class=first.entity_class or second.entity_class,
    )


def merge_note(first: Entity, second: Entity) -> str:
    """A sentence that says that the second entity is merged into the first, and which class is lost."""
    note = f'{second.place}: "{second.text}" is merged with "{first.text}" of {first.place}'
    if first.entity_class and second.entity_class and first.entity_class != second.entity_class:
        note += f'; its class "{second.entity_class}" gives way to "{first.entity_class}"'
    return note


def _collect(entities: Iterable[Entity], notes: list[str]) -> EntityList:
    """The list of distinct entities, with a note for each that was merged."""
    distinct: dict[str, Entity] = {}
    for entity in entities:
        first = distinct.setdefault(entity.text, entity)
        if first is not entity:
            distinct[entity.text] = merged(first, entity)
            notes.append(merge_note(first, entity))
    return EntityList(tuple(distinct.values()), tuple(notes))


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


def _guess_format(source: str, content: str) -> tuple[str, str]:
    """The format of a file, and what it was seen by in the content."""
    suffix = os.path.splitext(source)[1].lower()
    first = content.lstrip().split("\n", 1)[0]
    columns = [column.strip() for column in first.split("\t")]
    if suffix in (".jsonl", ".json"):
        return "jsonl", ""
    if suffix == ".tsv":
        return ("aws" if "Phrase" in columns else "tsv"), ""
    if suffix == ".csv":
        raise EntityListError(
            f"{source}: comma-separated files are not read; save it tab separated as .tsv, or give the format"
        )
    for file_format, (required, *_) in _TABLES.items():
        if required in columns and len(columns) > 1:
            return file_format, f'its header has "{required}"'
    if first.startswith('{"'):
        return "jsonl", "it starts with a JSON object"
    if scored := _SCORED_LINE.search(content):
        return "sherpa", f"line {_line_at(content, scored.start())} ends in a score"
    if "_" in content:
        return "ctc_ws", f"line {_line_at(content, content.index('_'))} has an underscore"
    return "text", ""


def _line_at(content: str, position: int) -> int:
    return content.count("\n", 0, position) + 1


def _parse_lines(source: str, content: str, file_format: str) -> Iterator[Entity]:
    parse_line = _LINE_PARSERS.get(file_format)
    for number, line in enumerate(content.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            if parse_line is None:
                parse_line = _table_parser(file_format, line)
            else:
                yield _entity(parse_line(line), source, number)
        except _InvalidError as error:
            raise EntityListError(f"{source}:{number}: {error}") from None


def _table_parser(file_format: str, header_line: str) -> Callable[[str], object]:
    """The parser of the rows below a header."""
    known = _TABLES[file_format]
    header = [column.strip() for column in header_line.split("\t")]
    for column in header:
        if column not in known:
            reason = f"{_short(column)} is not a column{_suggestion(column, known)}"
            raise _InvalidError(f"{reason}; the first line must be a header with columns among {' '.join(known)}")
        if header.count(column) > 1:
            raise _InvalidError(f'the column "{column}" is given twice; remove one')
    if known[0] not in header:
        raise _InvalidError(f'the column "{known[0]}" is missing; add it to the header')

    def parse_row(line: str) -> object:
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(header):
            reason = f"the row has {len(cells)} columns and the header {len(header)}"
            raise _InvalidError(f"{reason}; separate the columns by single tabs")
        row = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
        if known[0] not in row:
            raise _InvalidError(f'the column "{known[0]}" is empty; fill it in or remove the row')
        return _parse_tsv(row) if file_format == "tsv" else _parse_aws(row)

    return parse_row


def _parse_tsv(row: dict[str, str]) -> dict[str, object]:
    item: dict[str, object] = dict(row)
    if "weight" in row:
        item["weight"] = _number(row["weight"], "weight")
    for name in ("spellings", "pronunciations"):
        if name in row:
            item[name] = row[name].split("|")
    return item


def _parse_aws(row: dict[str, str]) -> dict[str, object]:
    """Phrase and SoundsLike have hyphens for spaces. A Phrase that differs from DisplayAs says how it is spoken."""
    spoken = row["Phrase"].replace("-", " ")
    text = row.get("DisplayAs", spoken)
    spellings = [] if spoken.lower() == text.lower() else [spoken]
    if "SoundsLike" in row:
        spellings.append(row["SoundsLike"].replace("-", " "))
    return {"text": text, "spellings": spellings, "pronunciations": [row["IPA"]] if "IPA" in row else []}


def _parse_text(line: str) -> str:
    return line


def _parse_jsonl(line: str) -> object:
    try:
        return json.loads(line, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise _InvalidError(f"not valid JSON ({error}); write one object or string a line") from None


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key is given twice")
    return keys


def _parse_ctc_ws(line: str) -> dict[str, object]:
    text, *spellings = line.split("_")
    return {"text": text, "spellings": spellings}


def _parse_sherpa(line: str) -> dict[str, object]:
    last = line.split()[-1]
    if last[0] in "#@" or "▁" in line:
        reason = "a line of a keyword file (tokens, #threshold or @original), not of a hotwords file"
        raise _InvalidError(f'{reason}; write "phrase :score"')
    if last[0] != ":":
        return {"text": line}
    return {"text": line.rstrip().removesuffix(last), "weight": _number(last[1:], "score") / SHERPA_SCORE}


_LINE_PARSERS: dict[str, Callable[[str], object]] = {
    "text": _parse_text,
    "jsonl": _parse_jsonl,
    "ctc_ws": _parse_ctc_ws,
    "sherpa": _parse_sherpa,
}
FORMATS = (*_LINE_PARSERS, *_TABLES)


def _entity(item: object, source: str, line: int) -> Entity:
    """An entity from a string, a mapping with the keys of jsonl, or an entity, if it is valid."""
    if isinstance(item, str):
        return Entity(_clean(item, "text"), 1.0, (), (), "", line, source)
    if isinstance(item, Entity):
        if item.line:
            source, line = item.source, item.line
        values = (item.text, item.weight, item.spellings, item.pronunciations, item.entity_class)
        item = dict(zip(_KEYS, values, strict=True))
    if not isinstance(item, Mapping):
        raise _InvalidError(f'the entity is {_type_name(item)}; give a string or an object with the key "text"')
    for key in item:
        if key not in _KEYS:
            raise _InvalidError(f"{_short(key)} is not a key{_suggestion(str(key), _KEYS)}; use {', '.join(_KEYS)}")
    if "text" not in item:
        raise _InvalidError('the key "text" is missing; add it')
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
        raise _InvalidError(f"{name} is {_type_name(value)}; give a string")
    text = value.strip()
    if not text.isprintable() and (unsafe := _UNSAFE.search(text)):
        if unsafe[0] == "\t":
            raise _InvalidError(f'{name} holds a tab; write a table in the tsv format, with the header "text<TAB>weight"')
        raise _InvalidError(f"{name} holds the character U+{ord(unsafe[0]):04X}, which is not text; remove it")
    if "  " in text or not text.isprintable():  # the only white space that counts as printable is the space
        text = " ".join(text.split())
    if not text:
        raise _InvalidError(f"{name} is empty; write it out or remove it")
    if len(text) > MAX_LENGTH and name != "pronunciation":
        raise _InvalidError(f"{name} has {len(text)} characters; give phrases of at most {MAX_LENGTH}, one a line")
    return text


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _InvalidError(f"weight is {_type_name(value)}; give a number of 0 or more")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight) or weight < 0:
        raise _InvalidError(f"weight {weight:g} is out of range; give a number of 0 or more")
    return weight


def _number(text: str, name: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise _InvalidError(f"{name} {_short(text)} is not a number; give a number of 0 or more")
    return float(text)


def _forms(value: object, name: str) -> tuple[str, ...]:
    """The distinct spellings or pronunciations of a string or a sequence of strings."""
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        raise _InvalidError(f"{name}s is {_type_name(value)}; give a string or a list of strings")
    forms = [value] if isinstance(value, str) else value
    return tuple(dict.fromkeys(_clean(form, name) for form in forms))


def _type_name(value: object) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", type(None): "null", str: "a string"}
    return names.get(type(value), "a number" if isinstance(value, numbers.Real) else f"of type {type(value).__name__}")


def _short(value: object) -> str:
    """A value as an error shows it: quoted, with escapes, and cut."""
    return ascii(str(value)[:40])


def _suggestion(word: str, known: Iterable[str]) -> str:
    """A question for the known word that is nearest, "" if none is near."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower()[:40], by_lower, n=1)
    return f', did you mean "{by_lower[near[0]]}"?' if near else ""
