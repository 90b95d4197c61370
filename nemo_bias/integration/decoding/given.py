"""The forms in which Python users give a list."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nemo_bias.entities import EntityList, EntityListError, parse_entities, read_entities

if TYPE_CHECKING:
    from pathlib import Path

    from nemo_bias.entities import Entity
    from nemo_bias.integration.decoding.lists import CompiledEntities

    Weighted: TypeAlias = tuple[str, float]
    Item: TypeAlias = str | Mapping[str, Any] | Entity | Weighted
    Entities: TypeAlias = str | Path | EntityList | CompiledEntities | Mapping[str, float] | Iterable[Item] | None

GIVEN = "entities"  # what messages call a list without a file


def read_file(path: str | os.PathLike[str], file_format: str) -> EntityList:
    """Reads a list; if there is no such file, says how to give a phrase.

    Raises:
        EntityListError: the list is broken.
    """
    try:
        return read_entities(path, file_format)
    except EntityListError as error:
        if os.path.exists(path):
            raise
        raise EntityListError(f'{error}, or a list such as ["{path}"] if that is a phrase') from error


def entity_list(entities: Mapping[str, float] | Iterable[Item]) -> EntityList:
    """Makes a list of Python objects: a list as it was read, items, weights by phrase, or a table of pandas.

    Raises:
        EntityListError: an item is none that a list can hold.
    """
    if isinstance(entities, EntityList):
        return entities
    if isinstance(entities, Mapping):
        if isinstance(entities.get("text"), str):  # one entity
            return parse_entities(entities, GIVEN)
        return parse_entities([{"text": phrase, "weight": weight} for phrase, weight in entities.items()], GIVEN)
    if hasattr(entities, "columns") and hasattr(entities, "to_dict"):  # a table of pandas, with empty cells
        return parse_entities(map(_row, entities.to_dict("records")), GIVEN)
    if isinstance(entities, bytes) or not isinstance(entities, Iterable):
        return parse_entities(entities, GIVEN)
    return parse_entities((_item(item) for item in entities), GIVEN)


def source_of(entities: EntityList) -> str:
    """The files that a list was read from, or `GIVEN`."""
    return " and ".join(dict.fromkeys(entity.source or GIVEN for entity in entities)) or GIVEN


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as `parse_entities` knows it, without empty cells."""
    import pandas as pd  # type: ignore[import-untyped]

    cells = {key: cell.tolist() if hasattr(cell, "tolist") else cell for key, cell in row.items()}
    return {key: cell for key, cell in cells.items() if not (pd.api.types.is_scalar(cell) and pd.isna(cell))}


def _item(item: Any) -> Any:
    """An item of a list as `parse_entities` knows it: a pair of a phrase and a weight is a mapping."""
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], numbers.Real):
        return {"text": item[0], "weight": item[1]}
    return item
