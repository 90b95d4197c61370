"""Programs in processes of their own: NeMo's kind of script, and those of this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "scripts" / "demo"
CLIPS = 3
BIASED = "ctc_decoding.strategy=biased_beam"
ENTITY_FILE = f"ctc_decoding.biased_beam.entity_file={DEMO / 'entities.txt'}"


def run(*arguments, fails=False, **environment):
    """Runs Python with the arguments; returns what it printed."""
    env = {key: value for key, value in os.environ.items() if key != "NEMO_BIAS"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    shown = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, shown[-4000:]
    return done.stdout if not fails else shown


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def program(output, manifest, *overrides, **how):
    """Runs the program that is shaped like NeMo's scripts; returns its texts."""
    shown = run(
        *(ROOT / "tests" / "nemo_program.py", f"model_path={DEMO / 'demo.nemo'}", f"dataset_manifest={manifest}"),
        *(f"output_filename={output}", *overrides),
        **how,
    )
    return shown if how.get("fails") else json.loads(output.read_text())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Some of the bundled clips, with absolute paths."""
    path = tmp_path_factory.mktemp("clips") / "clips.jsonl"
    items = read_lines(DEMO / "clips.jsonl")[:CLIPS]
    for item in items:
        item["audio_filepath"] = str(DEMO / item["audio_filepath"])
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.fixture(scope="module")
def expected(manifest):
    """Texts from the Python API, without and with the bundled list at an exaggerated weight."""
    import torch
    from nemo.collections.asr.models import ASRModel

    from nemo_bias import set_entities

    model = ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()
    audio = [item["audio_filepath"] for item in read_lines(manifest)]
    torch.set_num_threads(1)  # as in the programs
    texts = {"greedy": [h.text for h in model.transcribe(audio, batch_size=1, verbose=False)]}
    set_entities(model, str(DEMO / "entities.txt"), weight=4)
    texts["biased"] = [h.text for h in model.transcribe(audio, batch_size=1, verbose=False)]
    assert texts["greedy"] != texts["biased"]
    return texts


def test_command_line_in_every_way_of_decoding(manifest, expected, tmp_path):
    texts = program(
        *(tmp_path / "out.json", manifest, BIASED, ENTITY_FILE),
        *("ctc_decoding.biased_beam.weight=4", "ctc_decoding.biased_beam.threads=1", "predict=true"),
    )
    assert texts == {way: expected["biased"] for way in ("transcribe", "predict", "predict_lhotse")}


def test_yaml_config_and_off_switch(manifest, expected, tmp_path):
    (tmp_path / "ours.yaml").write_text(
        f"ctc_decoding:\n  strategy: biased_beam\n  biased_beam:\n    entity_file: {DEMO / 'entities.txt'}\n    weight: 4\n"
    )
    config = ("--config-path", tmp_path, "--config-name", "ours")
    run_with = (tmp_path / "out.json", manifest)
    assert program(*run_with, *config)["transcribe"] == expected["biased"]
    assert program(*run_with, *config, NEMO_BIAS="off")["transcribe"] == expected["greedy"]


@pytest.mark.parametrize(
    ("override", "key"),
    [("ctc_decoding.biased_beam.wieght=2", "wieght"), ("ctc_decoding.biased_beam.beam_size=big", "beam_size")],
)
def test_wrong_options_are_named(override, key, manifest, tmp_path):
    shown = program(tmp_path / "out.json", manifest, BIASED, override, fails=True)
    assert key in shown
    assert not (tmp_path / "out.json").exists()


def test_importing_nemo_does_not_import_the_decoder():
    shown = run(
        "-c", "import nemo.core, sys; print(*sorted(n for n in sys.modules if n.startswith(('nemo_bias', 'numba'))))"
    )
    modules = shown.split()
    assert "nemo_bias.integration.registration.hook" in modules  # the installed plugin is there
    parts = ("nemo_bias.decoder.", "nemo_bias.pronunciation", "nemo_bias.variants", "numba")
    assert [m for m in modules if m.startswith(parts)] == []


def test_transcribe_then_evaluate(expected, tmp_path):
    clips = read_lines(DEMO / "clips.jsonl")
    clips = [clips[2], *clips[:2]]
    for clip in clips:
        clip["audio_filepath"] = os.path.relpath(DEMO / clip["audio_filepath"], tmp_path)
    clips[0]["entities"] = [{"text": "zyxwvut", "weight": 0}]
    source, output = tmp_path / "clips.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    shown = run(
        *(ROOT / "scripts" / "transcribe.py", f"model_path={DEMO / 'demo.nemo'}", f"dataset_manifest={source}"),
        *(f"output_filename={output}", "batch_size=1", "timestamps=true", BIASED, ENTITY_FILE),
        *("ctc_decoding.biased_beam.weight=4", "explain=[tesla]", "explain_missed=true"),
    )
    assert "\n  tesla: not written; " in shown and f"{output}: {CLIPS} utterances" in shown
    results = read_lines(output)
    assert [r["pred_text"] for r in results] == [expected["biased"][i] for i in (2, 0, 1)]
    for clip, result in zip(clips, results, strict=True):
        assert {k: result[k] for k in clip} == clip
        assert " ".join(word["word"] for word in result["timestamps_word"]) == result["pred_text"]
        for span in result["entity_spans"]:
            assert 0 <= span["start"] < span["end"] <= clip["duration"] + 0.1
            assert 0.5 <= span["probability"] <= 1 and span["technique"] in (SPOTTED, LOOKED_UP)
            assert f" {span['phrase']} " in f" {result['pred_text']} "
    assert any(result["entity_spans"] for result in results)

    missed = [name for clip, r in zip(clips, results, strict=True) for name in clip["names"] if name not in r["pred_text"]]
    explained = [name for result in results for name in result["explanations"] if name != "tesla"]
    assert missed and set(missed) <= set(explained)
    table = run(
        *(ROOT / "scripts" / "evaluate.py", output, "--entity-file", DEMO / "entities.txt", "--details"),
        *("--json", tmp_path / "s.json"),
    )
    assert f"\n  {missed[0]}: not written; " in table and "tesla" not in table
    assert str(output) in table
    assert json.loads((tmp_path / "s.json").read_text())[str(output)]


def test_transcribe_says_what_is_missing(tmp_path):
    script = ROOT / "scripts" / "transcribe.py"
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "duration": 1.0}) + "\n")
    shown = run(script, f"model_path={tmp_path / 'no.nemo'}", f"dataset_manifest={tmp_path / 'm.jsonl'}", fails=True)
    assert shown == f"transcribe.py: {tmp_path / 'no.nemo'}: No such file or directory; check the path\n"
    shown = run(script, "model_path=no.nemo", f"dataset_manifest={tmp_path / 'no.jsonl'}", fails=True)
    assert (
        shown.startswith(f"transcribe.py: {tmp_path / 'no.jsonl'}: the manifest cannot be read") and shown.count("\n") == 1
    )


def test_check_entities(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("Tesla\nJürgen\ntesla\n北京\n")
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--model", DEMO / "demo.nemo", fails=True).splitlines()
    assert f'{path}:2: "Jürgen" is matched as "jurgen" (case, accents)' in shown
    assert any(line.startswith(f'{path}:3: "tesla" is merged with "Tesla"') for line in shown)
    assert any(line.startswith(f'{path}:4: "北京" cannot be written') for line in shown)
    assert shown[-1] == f"{path}: 4 entities, 2 phrases to look for, 1 not writable"


def test_check_entities_without_a_model(tmp_path):
    (tmp_path / "names.txt").write_text("# mine\n1. Oslo\n2. Port Moresby\n")
    comment, guess, summary = run(ROOT / "scripts" / "check_entities.py", tmp_path / "names.txt").splitlines()
    assert "comment" in comment and "itemized" in guess and ": 2 entities; --model MODEL.nemo shows" in summary


def test_check_entities_shows_pronunciations(tmp_path):
    """Without a model, and without loading NeMo."""
    path = tmp_path / "names.tsv"
    path.write_text("text\tpronunciations\nNguyen\tW IH1 N|nuˈjɛn\nNBC\t\n北京\t\n")
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("nbc EH N B IY S IY\n")
    program = f"""
import sys
sys.path.insert(0, "scripts")
import check_entities
code = check_entities.main([{str(path)!r}, "--pronunciations", "--lexicon", {str(lexicon)!r}])
assert not {{"nemo", "torch"}} & set(sys.modules)
sys.exit(code)
"""
    shown = run("-c", program, fails=True, XDG_CACHE_HOME=str(tmp_path)).splitlines()
    assert shown == [
        f'{path}:2: "Nguyen"',
        "    W IH N (user, 0.50)",
        "    N UW Y EH N (user, 0.50)",
        f'{path}:3: "NBC"',
        "    EH N B IY S IY (lexicon, 1.00)",
        f'{path}:4: "北京" has no pronunciation; add one to the list',
        f"{path}: 3 entities, 1 without a pronunciation",
    ]
    path.write_text("text\tpronunciations\nXi\tSH IX\n")
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--pronunciations", fails=True)
    assert shown.startswith(f'check_entities.py: {path}:2: pronunciation "SH IX": "IX" is not an ARPAbet phone')


def test_measure_g2p(tmp_path):
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("smith S M IH TH\nwilson W IH L S AH N\nanna OW\nusa Y UW EH S EY\n")
    shown = run(ROOT / "scripts" / "measure_g2p.py", lexicon)
    assert shown.startswith("4 words: first reading right 50.0%, one of two 50.0%, phone error rate of the first ")
    lexicon.write_text("smith\n")
    shown = run(ROOT / "scripts" / "measure_g2p.py", lexicon, fails=True)
    assert shown == f'measure_g2p.py: {lexicon}:1: "smith" has no phones; write them after the word\n'


def test_check_entities_with_a_broken_list(tmp_path):
    path = tmp_path / "names.jsonl"
    path.write_text('"tesla"\n{"text": "edison", "wieght": 2}\n')
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--model", DEMO / "demo.nemo", fails=True)
    assert shown.startswith(f"check_entities.py: {path}:2: ") and "weight" in shown


def test_check_entities_on_a_model_that_writes_both_cases(tmp_path):
    """A phrase is looked for in several forms; each is written once."""
    path = tmp_path / "names.txt"
    path.write_text("port moresby\nTesla\nzoo\n")
    program = f"""
import sys
sys.path.insert(0, "scripts")
import check_entities
from nemo_bias.decoder.vocabulary import Vocabulary
letters = "abelmoprsty"
pieces = ("▁", *letters, *letters.upper(), *"▁p ▁P".split())
check_entities.model_vocabulary = lambda path: Vocabulary(pieces, len(pieces))
sys.exit(check_entities.main([{str(path)!r}, "--model", {str(path)!r}]))
"""
    shown = run("-c", program, fails=True).splitlines()
    assert shown[-1] == f"{path}: 3 entities, 2 phrases to look for, 1 not writable"


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
            assert all(0.5 <= span["probability"] <= 1 for span in spans)
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
    assert "\ntrain_adapter.py: adapter.contextual.head: unknown option; did you mean 'heads'?" in wrong
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
