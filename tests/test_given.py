"""The forms in which Python users give a list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nemo_bias import Entity, EntityListError, read_entities
from nemo_bias.integration.decoding.given import entity_list, read_file

NAMES = ["Katharina", "Port Moresby"]
WEIGHTED = [("Katharina", 2.0), ("Port Moresby", 0.5)]


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (NAMES, (1, 1)),
        (tuple(NAMES), (1, 1)),
        (iter(NAMES), (1, 1)),
        (np.array(NAMES), (1, 1)),
        ([np.str_(name) for name in NAMES], (1, 1)),
        ([Entity(name) for name in NAMES], (1, 1)),
        ([{"text": name} for name in NAMES], (1, 1)),
        (WEIGHTED, (2, 0.5)),
        (dict(WEIGHTED), (2, 0.5)),
        ({name: np.float32(weight) for name, weight in WEIGHTED}, (2, 0.5)),
        (["Katharina", ("Port Moresby", 3)], (1, 3)),
        (pd.DataFrame({"text": NAMES}), (1, 1)),
        (pd.DataFrame({"weight": [None, 0.5], "text": NAMES, "class": [None, "place"]}), (1, 0.5)),
        (pd.DataFrame({"weight": [None, 2], "text": NAMES, "class": [None, "place"]}).convert_dtypes(), (1, 2)),
        (pd.DataFrame({"text": NAMES, "spellings": [np.array(["catarina"]), None]}, dtype=object), (1, 1)),
    ],
)
def test_forms(given, weights):
    listed = entity_list(given)
    assert [entity.text for entity in listed] == NAMES
    assert tuple(entity.weight for entity in listed) == weights


def test_a_list_that_was_read_stays_as_it_is(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    listed = read_entities(tmp_path / "names.txt")
    assert entity_list(listed) is listed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([3], "entities:1: the entity is a number"),
        (["a", ("b",)], "entities:2: the entity is of type tuple"),
        ({"a": 1, "b": "2"}, "entities:2: weight is a string"),
        ({"text": "a", "weight": 2}, "put them into a list"),
        (7, "expected a list of entities, not a number"),
        (pd.DataFrame({"city": NAMES}), "entities:1: 'city' is not a key; use text"),
        (b"names.txt", "expected a list of entities, not of type bytes"),
    ],
)
def test_what_is_no_list(given, message):
    with pytest.raises(EntityListError, match=message):
        entity_list(given)


def test_a_phrase_is_no_path(tmp_path):
    with pytest.raises(EntityListError, match=r'Katharina: cannot be read .*, or a list such as \["Katharina"\]'):
        read_file("Katharina", "auto")
    broken = tmp_path / "names.jsonl"
    broken.write_text(json.dumps({"text": 1}))
    with pytest.raises(EntityListError, match=r"names\.jsonl:1: text is a number; give a string$"):
        read_file(Path(broken), "auto")
