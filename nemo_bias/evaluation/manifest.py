"""NeMo manifests: JSON lines, one utterance per line.

A prediction manifest, as NeMo's transcription scripts write it, has the fields ``audio_filepath``, ``duration``
(seconds), ``text`` (the reference) and ``pred_text`` (the hypothesis).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PREDICTION_FIELDS = ("duration", "text", "pred_text")

_TEXT_FIELDS = {"audio_filepath", "text", "pred_text"}


class ManifestError(ValueError):
    """A manifest cannot be used; the message reads ``FILE:LINE: reason; fix``."""


def read_manifest(path: str | Path, required_fields: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read a manifest; blank lines are skipped.

    Args:
        path: file of JSON lines in UTF-8.
        required_fields: fields which every line must have. ``audio_filepath``, ``text`` and ``pred_text`` must then be
            strings and ``duration`` a number of seconds, not negative.

    Returns:
        The items in file order.

    Raises:
        ManifestError: the file cannot be read, a line is not a JSON object, or a required field is missing or of the
            wrong type.
    """
    return [item for _, item in _numbered_items(path, required_fields)]


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Read a prediction manifest.

    Raises:
        ManifestError: as for `read_manifest`, or there are no utterances.
    """
    items = read_manifest(path, PREDICTION_FIELDS)
    if not items:
        raise ManifestError(f"{path}:1: no utterances; write one JSON object per line")
    return items


def _numbered_items(path: str | Path, required_fields: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
    """Items with their line numbers."""
    try:
        with open(path, "rb") as file:
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except OSError as error:
        reason = error.strerror or str(error)
        raise ManifestError(f"{path}: the manifest cannot be read ({reason}); give a file of JSON lines") from error
    return [(number, _parse_line(line, required_fields, where=f"{path}:{number}")) for number, line in lines]


def by_source(
    items: Sequence[Mapping[str, Any]], manifest: str | Path, sources: Sequence[str] | None, name: str
) -> dict[str, list[int]]:
    """The places of a manifest's items by source, the folder that their audio paths start with.

    Args:
        items: lines of the manifest with `audio_filepath`.
        manifest: its name, for messages.
        sources: which sources; None: all items are of one source.
        name: of that one source.

    Raises:
        ManifestError: there is nothing of a source, or at all.
    """
    if not items:
        raise ManifestError(f"{manifest}: it is empty; give a manifest of speech")
    if sources is None:
        return {name: list(range(len(items)))}
    places: dict[str, list[int]] = {source: [] for source in sources}
    for number, item in enumerate(items):
        places.get(Path(item["audio_filepath"]).parts[0], []).append(number)
    for source, numbers in places.items():
        if not numbers:
            raise ManifestError(f"{manifest}: no audio_filepath starts with {source}/; change --sources, or leave it out")
    return places


def read_baseline(path: str | Path, predictions: str | Path, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Read what was recognised without a list in utterances that were also recognised with one.

    Args:
        path: prediction manifest.
        predictions: name of another one, for error messages.
        items: its lines.

    Returns:
        The `pred_text` of each line of `path`.

    Raises:
        ManifestError: a line is broken, or the two are not of the same utterances (`text` and `duration`) in the same order.
    """
    numbered = _numbered_items(path, PREDICTION_FIELDS)
    advice = "give predictions of the same utterances in the same order"
    for (line_number, before), item in zip(numbered, items, strict=False):
        for field in ("text", "duration"):
            if before[field] != item[field]:
                reason = f"field {field!r} is {before[field]!r}, but {item[field]!r} in {predictions}"
                raise ManifestError(f"{path}:{line_number}: {reason}; {advice}")
    if len(numbered) != len(items):
        last_line = numbered[-1][0] if numbered else 1
        raise ManifestError(f"{path}:{last_line}: {len(numbered)} utterances, but {len(items)} in {predictions}; {advice}")
    return [before["pred_text"] for _, before in numbered]


def write_manifest(path: str | Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Write items as JSON lines in UTF-8; nothing is written if one of them is not JSON.

    Args:
        path: file to write; one that exists is replaced.
        items: one mapping per utterance.

    Raises:
        TypeError: an item holds something JSON cannot express.
        OSError: the file cannot be written.
    """
    lines = [json.dumps(dict(item), ensure_ascii=False) + "\n" for item in items]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _parse_line(line: bytes, required_fields: Sequence[str], where: str) -> dict[str, Any]:
    try:
        item = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        reason = f"not JSON ({error.msg}, column {error.colno})"
        raise ManifestError(f"{where}: {reason}; write one JSON object per line") from error
    if not isinstance(item, dict):
        raise ManifestError(f"{where}: a JSON {type(item).__name__}; write one JSON object per line, as {{...}}")
    for field in required_fields:
        if field not in item:
            raise ManifestError(f"{where}: no field {field!r}; add it, the line has {', '.join(item) or 'no fields'}")
        _check_field(field, item[field], where)
    return item


def _check_field(field: str, value: object, where: str) -> None:
    if field in _TEXT_FIELDS and not isinstance(value, str):
        raise ManifestError(f"{where}: field {field!r} is {value!r}; make it a string")
    if field == "duration" and not _is_duration(value):
        raise ManifestError(f"{where}: field 'duration' is {value!r}; make it a number of seconds, 0 or more")


def _is_duration(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max  # type: ignore[operator]  # false for NaN
