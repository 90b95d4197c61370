"""Programs in processes of their own: NeMo's kind of script, and transcription."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from programs import DEMO, ROOT, clips_manifest, read_lines, run

from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED

CLIPS = 3
BIASED = "ctc_decoding.strategy=biased_beam"
ENTITY_FILE = f"ctc_decoding.biased_beam.entity_file={DEMO / 'entities.txt'}"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return clips_manifest(tmp_path_factory.mktemp("clips") / "clips.jsonl", CLIPS)


def program(output, manifest, *overrides, **how):
    """Runs the program that is shaped like NeMo's scripts; returns its texts."""
    shown = run(
        *(ROOT / "tests" / "nemo_program.py", f"model_path={DEMO / 'demo.nemo'}", f"dataset_manifest={manifest}"),
        *(f"output_filename={output}", *overrides),
        **how,
    )
    return shown if how.get("fails") else json.loads(output.read_text())


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
    clips[0]["entities"] = [{"text": "zyxwvut", "weight": 1e-9}]
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
            assert 0.4 - 1e-3 <= span["asked_for"] <= span["probability"] <= 1 and span["technique"] in (SPOTTED, LOOKED_UP)
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
    more = {
        f"output_filename={tmp_path / 'no' / 'out.jsonl'}": f"there is no folder {tmp_path / 'no'}; make it",
        "explain_missed=true": "explain_missed needs a manifest with the field text",
    }
    for option, message in more.items():
        shown = run(script, "model_path=no.nemo", f"dataset_manifest={tmp_path / 'm.jsonl'}", option, fails=True)
        assert shown.startswith("transcribe.py: ") and message in shown and shown.count("\n") == 1
    shown = run(script, "model_path=no.nemo", f"dataset_manifest={tmp_path / 'no.jsonl'}", fails=True)
    assert (
        shown.startswith(f"transcribe.py: {tmp_path / 'no.jsonl'}: the manifest cannot be read") and shown.count("\n") == 1
    )


def test_a_python_that_nemo_cannot_use_is_refused_at_once(tmp_path):
    """Before minutes of setting up: it lacks tarfile's filters."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.11.2\n')
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "NEMO_BIAS_VENV": str(tmp_path / "venv")}
    refused = subprocess.run([ROOT / "scripts" / "quickstart"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 1 and not (tmp_path / "venv").exists()
    assert f"{python} is Python 3.11.2; NeMo needs 3.10.12, 3.11.4 or newer" in refused.stderr
