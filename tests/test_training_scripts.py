"""The scripts that train and measure an adapter, and the quickstart."""

from __future__ import annotations

import json

import pytest
from programs import DEMO, ROOT, clips_manifest, read_lines, run

CLIPS = 3


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return clips_manifest(tmp_path_factory.mktemp("clips") / "clips.jsonl", CLIPS)


def test_what_an_idle_list_costs():
    shown = run(
        *("scripts/benchmark_transcribe.py", "--phrases", DEMO / "entities.txt", "--adapter", DEMO / "adapter.pt"),
        *("--count", "200", "--utterances", "2", "--repeats", "1"),
    )
    first, *table = [line for line in shown.splitlines() if line and not line.startswith("[NeMo")]
    assert first.startswith("2 utterances, 200 entities, compiled in ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]
    assert [row[0] for row in rows] == ["greedy_batch", "biased_beam", "biased_beam + adapter"]
    assert rows[0][2:] == ["1.000", "0"] and all(float(row[1]) > 0 for row in rows)


def test_train_then_evaluate_an_adapter(manifest, tmp_path):
    adapter = tmp_path / "adapter.pt"
    options = ("--train", manifest, "--validation", manifest, "--output", adapter, "--copies", "1", "--steps", "2")
    shown = run(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", *options),
        *("contextual.layers=[12]", "training.common_words=10", "phones={}"),
    )
    assert f"{adapter}: the adapter 'names'" in shown
    data, near = tmp_path / "test.jsonl", tmp_path / "clips.txt"
    marked = [{**item, "entities": item["names"]} for item in read_lines(DEMO / "clips.jsonl")]
    data.write_text("".join(json.dumps(item) + "\n" for item in marked))
    near.write_text("books used\nteslas\n")
    measured = run(
        *("scripts/evaluate_adapter.py", "--model", DEMO / "demo.nemo", "--adapter", adapter, "--manifest", data),
        *("--audio-dir", DEMO, "--distractors", DEMO / "entities.txt", "--sources", "clips", "--sizes", "50"),
        *("--near", tmp_path / "{source}.txt", "--output", tmp_path / "report"),
    )
    assert measured == (tmp_path / "report" / "adapter.md").read_text()
    of_entities, of_phones = measured.split("\n\n")
    name, head, text = (cell.strip() for cell in of_phones.splitlines()[2].split("|")[1:-1])
    assert name == "clips" and float(head) > 60 > float(text) > 20  # the head is hardly trained
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in of_entities.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [("clips", "50")] * 6 + [("clips", "2 near")] * 6
    searches = {"biased_beam", "phones + biased_beam", "adapter + biased_beam", "adapter + phones + biased_beam"}
    assert {row[2] for row in rows[:6]} == {row[2] for row in rows[6:]} == {"greedy", "adapter"} | searches
    by_decoder = {row[2]: row[3:] for row in rows[:6]}
    assert float(by_decoder["biased_beam"][0]) > float(by_decoder["greedy"][0]) + 20
    assert by_decoder["greedy"][6:8] == ["0.0", "0.0"] and "-" not in by_decoder["adapter + biased_beam"]
    assert by_decoder["greedy"][4] == by_decoder["greedy"][8] == by_decoder["biased_beam"][8]  # idle: nothing changes


def test_train_adapter_names_what_is_wrong(manifest, tmp_path):
    wrong = run(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", "--train", manifest, "--output", tmp_path / "adapter.pt"),
        "contextual.head=2",
        fails=True,
    )
    assert '\ntrain_adapter.py: adapter.contextual.head: unknown option, did you mean "heads"?' in wrong
    even = run(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", "--train", manifest, "--output", tmp_path / "adapter.pt"),
        "contextual.context_frames=4",
        fails=True,
    )
    assert "\ntrain_adapter.py: adapter: " in even and "odd" in even and "Traceback" not in even
    nothing = run(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", "--train", tmp_path / "no.jsonl", "--output", tmp_path / "a.pt"),
        fails=True,
    )
    assert nothing.splitlines()[1].startswith(f"train_adapter.py: {tmp_path / 'no.jsonl'}: the manifest cannot be read")
    (tmp_path / "words.dict").write_text("smith\n")
    silent = run(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", "--train", manifest, "--output", tmp_path / "a.pt", "phones={}"),
        *("training.parts=[phones]", f"training.lexicon={tmp_path / 'words.dict'}"),
        fails=True,
    )
    assert f"\ntrain_adapter.py: {tmp_path / 'words.dict'}:1: " in silent
    assert not (tmp_path / "a.cache").exists()  # it fails before anything is encoded


def test_quickstart(tmp_path):
    shown = run(ROOT / "scripts" / "quickstart.py", "--json", tmp_path / "q.json")
    result = json.loads((tmp_path / "q.json").read_text())
    scores = result["scores"]
    assert len(result["clips"]) == len(read_lines(DEMO / "clips.jsonl"))
    assert list(scores) == ["greedy", "adapter", "decoder", "both"]
    assert scores["greedy"]["f1"] + 5 < scores["adapter"]["f1"]
    assert scores["decoder"]["f1"] + 3 < scores["both"]["f1"]
    assert scores["decoder"]["harmed"] <= 1
    for clip in result["clips"]:
        for way, spans in clip["entity_spans"].items():
            assert all(span["asked_for"] - 1e-6 <= span["probability"] <= 1 for span in spans)
            assert all(f" {span['phrase']} " in f" {clip['texts'][way]} " for span in spans)
    both = scores["both"]
    assert sum(len(clip["names"]) for clip in result["clips"]) <= both["occurrences"] < shown.count("[")
    right = f"{both['true_positives']} of {both['occurrences']} names are right"
    assert shown.splitlines()[-1].startswith(f"With the list and the adapter, {right}")
    assert "\033" not in shown


def test_what_the_quickstart_marks_and_says(tmp_path):
    shown = run(
        "-c",
        """
import sys
sys.path.insert(0, "scripts")
from quickstart import COLOURS, MARKS, judged, marked, summary
from nemo_bias.evaluation import score
from nemo_bias.evaluation.occurrences import PhraseIndex
phrases = ["new york", "york", "cork", "dublin"]
index, said, heard = PhraseIndex(phrases), tuple("from cork to new york".split()), tuple("from dublin to new york".split())
for marks in (MARKS, COLOURS):
    print(repr(marked(heard, judged(said, heard, index), marks)))
def said_of(reference, before, after):
    scores = [score([reference], [text], phrases, [1.0], baseline=[before]) for text in (before, after)]
    print(summary(*scores))
said_of("from cork to new york", "from quark to new york", "fro dublin to new york")
said_of("we saw cork", "we saw quark", "we saw cork")
said_of("we saw cork and dublin", "we saw quark and doubling", "a so cork end cork dublin dublin")
""",
    ).splitlines()
    assert shown == [
        "'from !dublin! to [new york]'",
        r"'from \x1b[1;31mdublin\x1b[0m to \x1b[1;32mnew york\x1b[0m'",
        "With the list and the adapter, 2 of 3 names are right instead of 2, 1 is invented, and 1 other word was harmed.",
        "With the list and the adapter, 1 of 1 name is right instead of 0, none is invented, and no other word was harmed.",
        "With the list and the adapter, 2 of 2 names are right instead of 0, 2 are invented, and 3 other words were harmed.",
    ]
