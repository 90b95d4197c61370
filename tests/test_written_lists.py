"""Evaluation counts what decoding looks for."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from nemo_bias.entities import parse_entities
from nemo_bias.evaluation import score_manifest, write_manifest
from nemo_bias.evaluation.details import details_text, missed_entities, utterance_details
from nemo_bias.evaluation.manifest import ManifestError, by_source
from nemo_bias.evaluation.occurrences import PhraseIndex
from nemo_bias.evaluation.written_lists import alphabet_of, written_items, written_list, written_phrases

LOWER = alphabet_of(["we met o'brien"])
WRITTEN = {  # as listed: as it must count in lower-case texts
    "Edmond, Oklahoma": "edmond oklahoma",
    "T. S. Eliot": "t s eliot",
    "Jürgen": "jurgen",
    "U.S.A.": "u s a",
    "7": "seven",
    "O’Brien": "o'brien",
    "AT&T": "at and t",
}


@pytest.mark.parametrize("entity", WRITTEN)
def test_a_listed_entity_counts_as_it_is_written(entity, tmp_path):
    text = f"we met {WRITTEN[entity]} again"
    path = tmp_path / "p.jsonl"
    write_manifest(path, [{"duration": 1.0, "text": text, "pred_text": text}])
    result = score_manifest(path, [entity])
    assert (result.occurrences, result.true_positives) == (1, 1)


def test_texts_in_both_cases_with_punctuation_and_digits(tmp_path):
    path = tmp_path / "p.jsonl"
    write_manifest(path, [{"duration": 1.0, "text": "T. S. Eliot has 7 cats.", "pred_text": "T. S. Eliot has 7 cats."}])
    assert score_manifest(path, ["T. S. Eliot", "7"]).true_positives == 2


def test_the_alphabet_holds_letters_that_do_not_occur():
    assert {*"zq'"} <= LOWER and not {*"A7,"} & LOWER
    assert {*"zQ7"} <= alphabet_of(["We met 7"])
    assert alphabet_of(["東京"]) == {"東", "京"}


def test_what_cannot_be_written_is_told():
    listed = written_list(["Oslo", "東京"], ["we met"])
    assert listed.phrases == ("oslo",) and "東京" in listed.unwritable[0]
    assert written_phrases(["Oslo", " ", "oslo", "東京"], LOWER) == ["oslo"]


def test_items_of_any_manifest():
    items = [
        {"text": "In Edmond", "entities": [{"text": "Edmond, Oklahoma", "weight": 2}, "東京"]},
        {"text": "a", "entities": "Oslo"},
    ]
    written, notes = written_items([*items, {"text": "b", "entities": None}], LOWER, "m.jsonl")
    assert [item["entities"] for item in written] == [["edmond oklahoma"], ["oslo"], []]
    unwritable, style = notes
    assert unwritable.startswith('m.jsonl, utterance 1, entities:2: "東京" cannot be written')
    assert style.startswith("m.jsonl: 1 of 3 references have characters that the model cannot write")


def test_sources():
    items = [{"audio_filepath": path} for path in ("a/1.wav", "b/1.wav", "a/2.wav", "c.wav")]
    assert by_source(items, "m.jsonl", None, "m") == {"m": [0, 1, 2, 3]}
    assert by_source(items, "m.jsonl", ["b", "a"], "m") == {"b": [1], "a": [0, 2]}
    with pytest.raises(ManifestError, match=r"m\.jsonl: it is empty; give a manifest"):
        by_source([], "m.jsonl", None, "m")
    with pytest.raises(
        ManifestError, match=r"m\.jsonl: no audio_filepath starts with d/; change --sources, or leave it out"
    ):
        by_source(items, "m.jsonl", ["a", "d"], "m")


def test_details_of_an_utterance():
    index = PhraseIndex(["oslo", "port moresby", "cork"])
    details = utterance_details("from oslo to port moresby", "from oslo to port more's be in cork", index)
    assert details.found == ("oslo",)
    assert details.missed == (("port moresby", "port more's"),)
    assert details.invented == (("cork", ""),)
    assert str(utterance_details("a quark", "a cork", index)) == "invented cork (said: quark)"
    assert str(utterance_details("to cork", "to", index)) == "missed cork (heard: nothing)"
    assert not utterance_details("nothing here", "nothing hear", index)


def test_details_of_a_manifest():
    items = [{"text": "oslo", "pred_text": "oslo", "audio_filepath": "a.wav"}, {"text": "a", "pred_text": "b"}]
    items.append({"text": "cork", "pred_text": "quark"})
    assert details_text(items, ["oslo", "cork"]) == "a.wav: found oslo\nutterance 3: missed cork (heard: quark)"
    items[2]["explanations"] = {"cork": "cork: not written; it is far", "oslo": "oslo: not written; nothing"}
    assert details_text(items, ["oslo", "cork"]).endswith("missed cork (heard: quark)\n  cork: not written; it is far")
    assert missed_entities(items, parse_entities(["oslo", "Cork"], "entities"), "en") == [(), (), ("cork",)]


@pytest.fixture
def evaluate():
    spec = importlib.util.spec_from_file_location(
        "evaluate_script", Path(__file__).parent.parent / "scripts" / "evaluate.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_evaluate_script_with_details(evaluate, tmp_path, capsys):
    predictions, entity_file = tmp_path / "p.jsonl", tmp_path / "names.csv"
    texts = [("in edmond oklahoma", "in edmond oklahoma"), ("t s eliot", "tea s eliot")]
    write_manifest(predictions, [{"duration": 1.0, "text": text, "pred_text": heard} for text, heard in texts])
    entity_file.write_text('name\n"Edmond, Oklahoma"\nT. S. Eliot\n東京\n')
    assert (
        evaluate([str(predictions), "--entity-file", str(entity_file), "--details", "--json", str(tmp_path / "s.json")]) == 0
    )
    shown = capsys.readouterr()
    assert shown.out.startswith(
        f"{predictions}\nutterance 1: found edmond oklahoma\nutterance 2: missed t s eliot (heard: tea s eliot)\n\n| "
    )
    assert f'{entity_file}:4: "東京" cannot be written in the characters of {predictions}' in shown.err
    assert json.loads((tmp_path / "s.json").read_text())[str(predictions)]["occurrences"] == 2
