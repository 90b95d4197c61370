"""The file formats of entity lists, and how the format of a file is told.

A blank line holds no entity, and a line that begins with ``#`` is a comment. The formats:

- ``text``: the phrase alone. NeMo's key-phrase files are of this kind.
- ``itemized``: ``text`` with a number or a bullet before each phrase, as in ``1. phrase`` or ``- phrase``.
- ``tsv``: tab separated, with a header among ``text weight spellings pronunciations class``. ``text`` is required;
  several spellings or pronunciations are separated by ``|``. Quotation marks have no special meaning.
- ``csv``: the same with commas, semicolons, tabs or bars, and cells in quotation marks where needed. The column of the
  phrases may also be called ``name`` or ``phrase``, and columns of other names are not read. Without a header, one column.
- ``jsonl``: a JSON object a line with the keys of ``tsv``, or a bare JSON string.
- ``ctc_ws``: the context file of NeMo's CTC word spotter, ``word_spelling1_spelling2``.
- ``sherpa``: sherpa-onnx hotwords, ``phrase :score`` with an optional score. The weight is the score over 1.5,
  sherpa's default score.
- ``aws``: an Amazon Transcribe vocabulary table, tab separated, with a header among ``Phrase SoundsLike IPA DisplayAs``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from nemo_bias.messages import short, suggestion

SHERPA_SCORE = 1.5  # sherpa-onnx's default hotwords score, which is our weight 1
KEYS = ("text", "weight", "spellings", "pronunciations", "class")  # of an entity, in tables and in JSON

_TABLES = {"tsv": KEYS, "aws": ("Phrase", "SoundsLike", "IPA", "DisplayAs")}  # columns; the first is required
_PHRASE_COLUMNS = ("text", "phrase", "name")  # of a CSV file; of several, the first
_DELIMITERS = ",;\t|"
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_SCORE = re.compile(rf"[ \t]:{_NUMBER}[ \t\r]*$")
_ITEM = re.compile(r"\s*(?:\(?(?P<number>[0-9]+)(?:[.):]|\s*\t)\s*(?![0-9\s])|(?P<bullet>[-*•·–+])\s+)")


class InvalidError(ValueError):
    """``reason; fix`` for an entity whose file the caller knows, and whose line as well, unless it is given here."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Line(NamedTuple):
    """A line of a file, or what it holds."""

    number: int  # from 1
    content: str


def read_items(content: str, suffix: str, file_format: str) -> tuple[list[tuple[int, object]], list[str]]:
    """The entities of a file as `parse_entities` takes them.

    Args:
        content: of the file.
        suffix: of its name, such as ``.csv``.
        file_format: one of FORMATS, or ``auto``.

    Returns:
        Each entity with its line, and what was taken for what, a note each.

    Raises:
        InvalidError: a line is not valid in the format.
    """
    lines = [Line(number, line) for number, line in enumerate(content.split("\n"), 1) if line and not line.isspace()]
    notes = _comment_note([line for line in lines if _is_comment(line)])
    lines = [line for line in lines if not _is_comment(line)]
    items: list[tuple[int, object]] = []
    if lines and file_format == "auto":
        file_format, guessed = _guess(lines, suffix)
        notes += guessed
    if lines and file_format == "csv":
        items, unread = _read_csv(lines)
        notes += unread
    elif lines:
        items = list(_read_lines(lines, file_format))
    return items, notes if items else [*notes, "the file holds no entities"]


def _is_comment(line: Line) -> bool:
    return line.content.lstrip().startswith("#")


def _comment_note(comments: Sequence[Line]) -> list[str]:
    if not comments:
        return []
    if len(comments) == 1:
        return [f"line {comments[0].number} begins with # and is a comment; write an entity without it"]
    return [
        f"line {comments[0].number} and {len(comments) - 1} more begin with # and are comments; write entities without it"
    ]


def _guess(lines: Sequence[Line], suffix: str) -> tuple[str, list[str]]:
    """The format of a file by its suffix and content, and notes if its content looks like more than plain phrases.

    Lines are no plain phrases if two or more of them have the marks of another format.
    """
    first = lines[0].content
    columns = [column.strip() for column in first.split("\t")]
    if suffix in (".jsonl", ".json"):
        return "jsonl", []
    if suffix == ".csv":
        return "csv", []
    if suffix == ".tsv":
        return ("aws" if "Phrase" in columns else "tsv"), []
    for file_format, (required, *_) in _TABLES.items():
        if required in columns and len(columns) > 1:
            return file_format, _taken_for(file_format, f'its header has "{required}"')
    scored = [line for line in lines if _SCORE.search(line.content)]
    underscored = [line for line in lines if "_" in line.content]
    if first.lstrip().startswith('{"'):
        return "jsonl", _taken_for("jsonl", "it starts with a JSON object")
    if column := _csv_column(lines):
        return "csv", _taken_for("csv", f'its header has "{column}" and all lines have as many cells')
    if len(lines) > 1 and (mark := _item_mark(lines)):
        return "itemized", _taken_for("itemized", f"all lines begin with {mark}")
    if len(scored) > 1:
        return "sherpa", _taken_for("sherpa", f"lines {scored[0].number} and {scored[1].number} end in a score")
    if len(underscored) == len(lines) > 1 and any(_repeats_itself(line.content) for line in lines):
        return "ctc_ws", _taken_for("ctc_ws", "all lines have an underscore and some spell the phrase again")
    if scored:
        sign = f"line {scored[0].number} ends in a score, as in the sherpa format, but is the only one"
    elif underscored:
        sign = f"line {underscored[0].number} has an underscore, as in the ctc_ws format, but the file is none"
    else:
        return "text", []
    return "text", [f"{sign}; each line is read as a phrase, and if that is wrong, give the format"]


def _taken_for(file_format: str, sign: str) -> list[str]:
    return [f"read in the {file_format} format because {sign}; if that is wrong, give the format"]


def _item_mark(lines: Sequence[Line]) -> str:
    """What stands before every line: numbers that count on, or the same bullet; "" if nothing does."""
    marks = [_ITEM.match(line.content) for line in lines]
    bullets = {mark["bullet"] for mark in marks if mark}
    if None in marks or len(bullets) > 1:
        return ""
    if bullets != {None}:
        return f"the bullet {bullets.pop()}"
    numbers = [int(mark["number"][:9]) for mark in marks if mark]
    counts_on = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return f"a number, from {numbers[0]} to {numbers[-1]}" if counts_on else ""


def _repeats_itself(line: str) -> bool:
    text, *spellings = ("".join(part.lower().split()) for part in line.split("_"))
    return text in spellings


def _csv_column(lines: Sequence[Line]) -> str:
    """The column of the phrases, if the lines look like a CSV file of two columns or more with a header; else ""."""
    if len(lines) < 2:
        return ""
    try:
        rows = list(csv.reader((line.content.rstrip("\r") for line in lines), delimiter=_delimiter(lines[0].content)))
    except csv.Error:
        return ""
    header = [cell.strip().lower() for cell in rows[0]]
    regular = len(header) > 1 and all(len(row) == len(header) for row in rows)
    return next((name for name in _PHRASE_COLUMNS if name in header), "") if regular else ""


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


def _read_lines(lines: Sequence[Line], file_format: str) -> Iterator[tuple[int, object]]:
    parse_line = _LINE_PARSERS.get(file_format)
    for number, line in lines:
        try:
            if parse_line is None:
                parse_line = _table_parser(file_format, line)
            else:
                yield number, parse_line(line)
        except InvalidError as error:
            raise InvalidError(str(error), number) from None


def _read_csv(lines: Sequence[Line]) -> tuple[list[tuple[int, object]], list[str]]:
    """The rows of a CSV file by its header, which is sought for its delimiter and the columns that are known."""
    declared = re.fullmatch(r"sep=(.)\s*", lines[0].content)  # what spreadsheets write before the header
    lines = lines[1:] if declared else lines
    delimiter = declared[1] if declared else _delimiter(lines[0].content) if lines else ","
    reached = lines[0].number if lines else 0

    def contents() -> Iterator[str]:
        nonlocal reached
        for reached, content in lines:  # noqa: B007
            yield content.rstrip("\r") + "\n"

    items: list[tuple[int, object]] = []
    notes: list[str] = []
    header: list[str] = []
    try:
        for cells in csv.reader(contents(), delimiter=delimiter, skipinitialspace=True):
            row = [" ".join(cell.split()) for cell in cells]
            if not header:
                header, has_one = _csv_header(row)
                notes += _unread_note(row, header)
                if has_one:
                    continue
            if any(row):
                items.append((reached, _csv_item(row, header)))
    except csv.Error as error:
        raise InvalidError(f"not valid CSV ({error}); save the file anew as CSV", reached) from None
    except InvalidError as error:
        raise InvalidError(str(error), reached) from None
    return items, notes


def _csv_header(row: Sequence[str]) -> tuple[list[str], bool]:
    """The key of each column, "" for one that is not read, and whether the row is a header."""
    names = [name.lower() for name in row]
    column = next((name for name in _PHRASE_COLUMNS if name in names), None)
    if column is None and len(row) > 1:
        shown = ", ".join(map(short, row[:8]))
        raise InvalidError(f"no column is called {', '.join(_PHRASE_COLUMNS)}, but {shown}; name the column of the phrases")
    if column is None:
        return ["text"], False
    for name in (column, *KEYS[1:]):
        if names.count(name) > 1:
            raise InvalidError(f'the column "{name}" is given twice; remove one')
    return ["text" if name == column else name if name in KEYS[1:] else "" for name in names], True


def _unread_note(row: Sequence[str], header: Sequence[str]) -> list[str]:
    unread = [name for name, key in zip(row, header, strict=True) if not key]
    hints = {name: suggestion(name, KEYS[1:]) for name in unread}
    names = ", ".join(f'"{name}"{hints[name]}' for name in unread)
    return [f"columns that are not read: {names}; those that are read are {', '.join(KEYS)}"] if unread else []


def _csv_item(row: Sequence[str], header: Sequence[str]) -> object:
    if len(row) != len(header):
        reason = f"the row has {len(row)} columns and the header {len(header)}"
        raise InvalidError(f"{reason}; put cells that hold the separator into quotation marks")
    cells = {key: cell for key, cell in zip(header, row, strict=True) if key and cell}
    if "text" not in cells:
        raise InvalidError("the cell of the phrase is empty; fill it in or remove the row")
    return _parse_tsv(cells)


def _table_parser(file_format: str, header_line: str) -> Callable[[str], object]:
    """The parser of the rows below a header."""
    known = _TABLES[file_format]
    header = [column.strip() for column in header_line.split("\t")]
    for column in header:
        if column not in known:
            reason = f"{short(column)} is not a column{suggestion(column, known)}"
            raise InvalidError(f"{reason}; the first line must be a header with columns among {' '.join(known)}")
        if header.count(column) > 1:
            raise InvalidError(f'the column "{column}" is given twice; remove one')
    if known[0] not in header:
        raise InvalidError(f'the column "{known[0]}" is missing; add it to the header')

    def parse_row(line: str) -> object:
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(header):
            reason = f"the row has {len(cells)} columns and the header {len(header)}"
            raise InvalidError(f"{reason}; separate the columns by single tabs")
        row = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
        if known[0] not in row:
            raise InvalidError(f'the column "{known[0]}" is empty; fill it in or remove the row')
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


def _parse_itemized(line: str) -> str:
    mark = _ITEM.match(line)
    if mark is None:
        raise InvalidError(
            'the line begins with no number or bullet; write "1. phrase" or "- phrase", or give the format text'
        )
    return line[mark.end() :]


def _parse_jsonl(line: str) -> object:
    try:
        return json.loads(line, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"not valid JSON ({error}); write one object or string a line") from None


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
        raise InvalidError(f'{reason}; write "phrase :score"')
    if last[0] != ":":
        return {"text": line}
    return {"text": line.rstrip().removesuffix(last), "weight": _number(last[1:], "score") / SHERPA_SCORE}


_LINE_PARSERS: dict[str, Callable[[str], object]] = {
    "text": _parse_text,
    "itemized": _parse_itemized,
    "jsonl": _parse_jsonl,
    "ctc_ws": _parse_ctc_ws,
    "sherpa": _parse_sherpa,
}
FORMATS = (*_LINE_PARSERS, *_TABLES, "csv")


def _number(text: str, name: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise InvalidError(f"{name} {short(text)} is not a number; give one such as 1, 0.5 or -1")
    return float(text)
