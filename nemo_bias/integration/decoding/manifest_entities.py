"""The entities of single utterances, in a field of a NeMo manifest.

NeMo's Lhotse dataset keeps unknown manifest fields on its cuts and can return the cuts with a batch. All lists of a manifest
are checked before its first batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_bias.entities import Entity, EntityList, EntityListError, parse_entities

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.lists import PreparedLists

_originals: dict[str, str] = {}  # manifests that a program has written for NeMo, and those that they were made of


def made_of(manifest: str, original: str) -> None:
    """Remembers which manifest another one was made of, since that is the one that its author can mend."""
    _originals[manifest] = _originals.pop(original, original)


def check_manifest(path: str, prepared: PreparedLists) -> tuple[str, bool, list[Entity]]:
    """Reads the entities of every line of a manifest.

    Args:
        path: the manifest; one that NeMo cannot read is left to NeMo.
        prepared: what the model will decode with.

    Returns:
        The manifest as its author knows it; whether a line has the field; and one entity of each kind that the lines have:
        with pronunciations or without, with a weight or without, and of each class.

    Raises:
        EntityListError: a line's entities are broken; the message names manifest, line, audio file and item.
    """
    path = _originals.pop(path, path)
    field, found, kinds = prepared.config.entity_field, False, dict[Any, Entity]()
    if field is None:
        return path, found, []
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if field not in line and json.dumps(field) not in line:  # the latter has escapes
                    continue
                item = json.loads(line)
                entities = item.get(field)
                found |= field in item
                if entities is not None:
                    place = f"{path}:{number}: {field} of {Path(str(item.get('audio_filepath'))).name}"
                    for entity in _checked(entities, place, prepared):
                        kind = bool(entity.pronunciations), entity.weight != 1.0, entity.entity_class
                        kinds.setdefault(kind, entity)
    except EntityListError:
        raise
    except (OSError, ValueError, AttributeError):  # NeMo will say what is wrong with the manifest
        pass
    return path, found, list(kinds.values())


def has_field(path: str, field: str) -> bool:
    """Whether the first line of a manifest has a field."""
    try:
        with open(path, encoding="utf-8") as lines:
            return field in json.loads(next(lines, "{}"))
    except (OSError, ValueError, TypeError):  # NeMo will say what is wrong with the manifest
        return False


def entities_of(cut: Any, field: str) -> tuple[list[Any], str]:
    """The field of a cut, and where it stands."""
    custom = getattr(getattr(cut, "first_non_padding_cut", cut), "custom", None) or {}
    place = f"manifest field {field} of {_name_of(cut)}"
    return items_of(custom.get(field), place), place


def items_of(entities: Any, place: str) -> list[Any]:
    """The entities of a field: a list, or one string for a list of one.

    Raises:
        EntityListError: it is something else.
    """
    if entities is None:
        return []
    if isinstance(entities, str):
        return [entities]
    if not isinstance(entities, list):
        raise EntityListError(f"{place} is {entities!r}; expected a list of entities")
    return entities


def _checked(entities: Any, place: str, prepared: PreparedLists) -> EntityList:
    parsed = parse_entities(items_of(entities, place), place)
    said = [entity for entity in parsed if entity.pronunciations]
    if said:
        prepared.search.compile([entity.text for entity in said], entities=said)
    return parsed


def _name_of(cut: Any) -> str:
    """The file of an utterance, or what it is called if it has none of its own."""
    try:
        return Path(cut.recording.sources[0].source).name
    except (AttributeError, IndexError, TypeError):
        return str(getattr(cut, "id", "an utterance"))
