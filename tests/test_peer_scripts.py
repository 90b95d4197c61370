"""compare_peers.py and benchmark_decoders.py on made-up log-probs, without a model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from conftest import speak

from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.log_probs_file import read_log_probs, write_log_probs

SCRIPTS = Path(__file__).parent.parent / "scripts"
UTTERANCES = [  # source, text, its entities; the last piece of an entity is heard wrongly
    ("one", "we met boloni", ["boloni"]),
    ("two", "tell us now", []),
    ("one", "do you know", []),
    ("two", "this is nibodi", ["nibodi"]),
    ("two", "so it is", []),
]
SYSTEMS = "greedy,greedy_batch,nemo_bias"


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    module.quiet_nemo = lambda: None  # it would quieten NeMo for other tests of this process, too
    return module


@pytest.fixture(scope="module")
def compare_peers(one_thread):
    return script("compare_peers").main


@pytest.fixture(scope="module")
def benchmark(one_thread):
    return script("benchmark_decoders")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a tokenizer, lists, and the same manifest and log-probs for dev and test."""
    folder = tmp_path_factory.mktemp("data")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for _, text, _ in UTTERANCES]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=26,
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    tokens = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocabulary = Vocabulary(tuple(tokens.id_to_piece(list(range(26)))), 26)
    lines, log_probs = [], []
    for k, (source, text, entities) in enumerate(UTTERANCES):
        lines.append({"audio_filepath": f"{source}/{k}.wav", "duration": 2.0, "text": text, "entities": entities})
        pieces = tokens.encode(text, out_type=str)
        log_probs.append(speak(vocabulary, pieces, {len(pieces) - 1: ("u", 0.5)} if entities else None))
    for split in ("dev", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_log_probs(folder / f"{split}.npz", log_probs)
        (folder / f"{split}_one.txt").write_text("mets\nboloni\nwed met\n")
    for split, phrases in {"dev": "dell\n", "test": "dell\nnibodu\n\ntwo\n"}.items():
        (folder / f"{split}_two.txt").write_text(phrases)
    (folder / "distractors.txt").write_text("tell me\nlondon\nhello\n")
    return folder


def arguments(data, output, *more, log_probs="{split}.npz"):
    paths = {"--dev": "dev.jsonl", "--test": "test.jsonl", "--distractors": "distractors.txt"}
    paths |= {"--tokenizer": "tokenizer.model", "--log-probs": log_probs}
    named = [part for option, name in paths.items() for part in (option, str(data / name))]
    return [*named, "--sources", "one,two", "--sizes", "2", "--systems", SYSTEMS, "--output", str(output), *more]


def test_log_probs_from_files_and_near_lists(compare_peers, data, tmp_path, capsys):
    assert compare_peers(arguments(data, tmp_path, "--near", str(data / "{split}_{source}.txt"))) == 0
    assert capsys.readouterr().out.endswith((tmp_path / "peers.md").read_text())
    report = json.loads((tmp_path / "peers.json").read_text())
    rows = {(row["source"], row["distractors"], row["system"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == 12
    assert {key[:2]: row["phrases"] for key, row in rows.items()} == {
        ("one", "2"): 3,
        ("one", "2 near"): 3,
        ("two", "2"): 3,
        ("two", "3 near"): 4,
    }
    for source, words, near in (("one", 6, "2 near"), ("two", 9, "3 near")):
        for distractors in ("2", near):
            greedy, ours = rows[source, distractors, "greedy"], rows[source, distractors, "nemo_bias"]
            assert greedy["wer"] == pytest.approx(100 / words)  # the log-probs are those of the source's lines
            assert (greedy["harmed"], greedy["helped"]) == (0, 0)
            assert greedy["distractors_wer"] == greedy["wer"]
            assert ours["f1"] == 100 and greedy["f1"] == 0
            assert ours["harmed"] is not None and ours["distractors_wer"] is not None
    assert report["log_probs"] == str(data / "{split}.npz")
    assert report["near"] == str(data / "{split}_{source}.txt")


def test_all_data_is_one_source_unless_told_otherwise(compare_peers, data, tmp_path, capsys, monkeypatch):
    """And a peer that is not installed is left out, with a note; entities and distractors are written as the model does."""
    monkeypatch.setitem(compare_peers.__wrapped__.__globals__, "find_spec", lambda package: None)
    lines = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    for line in lines:
        line["entities"] = [{"text": entity.title()} for entity in line["entities"]]
    (tmp_path / "any.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = arguments(data, tmp_path, "--systems", "greedy,pyctcdecode", "--test", str(tmp_path / "any.jsonl"))
    place = given.index("--sources")
    assert compare_peers(given[:place] + given[place + 2 :]) == 0
    assert "compare_peers.py: pyctcdecode is left out; for it, pip install pyctcdecode\n" in capsys.readouterr().err
    [row] = json.loads((tmp_path / "peers.json").read_text())["rows"]
    assert (row["source"], row["system"], row["phrases"]) == ("any", "greedy", 4)
    assert compare_peers([*given, "--systems", "pyctcdecode"]) == 2
    assert "--systems: none is left" in capsys.readouterr().err


def test_near_lists_by_pronunciation(compare_peers, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compare_peers(arguments(data, tmp_path, "--near", "2")) == 0
    report = json.loads((tmp_path / "peers.json").read_text())
    assert {row["distractors"] for row in report["rows"]} == {"2", "2 near"}
    assert (report["near"], report["lexicon"]) == ("2", None)
    assert compare_peers(arguments(data, tmp_path, "--near", "2", "--lexicon", str(tmp_path / "no.dict"))) == 2
    assert "no.dict: cannot be read" in capsys.readouterr().err


def test_distractors_exclude_words_that_are_said(compare_peers, data, tmp_path, capsys):
    assert compare_peers(arguments(data, tmp_path, "--sizes", "3")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "compare_peers.py: 3 distractors wanted, but only 2 share no word with a reference; add some, or ask for fewer"
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fewer.npz", lambda each: each[1:], "4 utterances, but the manifest has 5"),
        ("narrow.npz", lambda each: [one[:, 1:] for one in each], "26 columns, but the tokenizer's tokens and"),
        ("none.npz", None, "No such file"),
    ],
)
def test_log_probs_that_do_not_fit(compare_peers, data, tmp_path, capsys, name, change, message):
    if change:
        write_log_probs(data / name, change(read_log_probs(data / "dev.npz", len(UTTERANCES))))
    assert compare_peers(arguments(data, tmp_path, log_probs=name)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("compare_peers.py: ") and message in error and str(data / name) in error


def test_missing_files_are_named(compare_peers, data, tmp_path, capsys):
    assert compare_peers(arguments(data, tmp_path, "--near", str(data / "{split}_{source}.lst"))) == 2
    assert str(data / "dev_one.lst") in capsys.readouterr().err
    assert not (tmp_path / "peers.md").exists()
    assert compare_peers(arguments(data, tmp_path, "--tokenizer", str(data / "none.model"))) == 2
    assert capsys.readouterr().err == f"compare_peers.py: no tokenizer {data / 'none.model'}\n"
    assert compare_peers(arguments(data, tmp_path, "--tokenizer", str(data / "dev.jsonl"))) == 2
    assert capsys.readouterr().err.endswith(f"compare_peers.py: {data / 'dev.jsonl'} is no SentencePiece model\n")


@pytest.mark.parametrize(
    ("recogniser", "message"),
    [
        ([], "one of the arguments --model --log-probs is required"),
        (["--model", "m.nemo", "--log-probs", "l.npz", "--tokenizer", "t.model"], "not allowed with argument"),
        (["--log-probs", "l.npz"], "give --log-probs and --tokenizer together"),
        (["--model", "m.nemo", "--tokenizer", "t.model"], "give --log-probs and --tokenizer together"),
    ],
)
def test_a_model_or_log_probs(compare_peers, capsys, recogniser, message):
    with pytest.raises(SystemExit) as stopped:
        compare_peers([*recogniser, "--dev", "d", "--test", "t", "--distractors", "f", "--output", "o"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_recognisers_log_probs_are_kept(tmp_path, monkeypatch):
    from nemo_bias.evaluation import recogniser

    (tmp_path / "m.nemo").write_bytes(b"weights")
    log_probs = [np.log(np.full((frames, 2), 0.5, np.float32)) for frames in (2, 3)]
    runs = []
    monkeypatch.setattr(recogniser, "log_probs_of", lambda *arguments: runs.append(arguments) or log_probs)
    items = [{"audio_filepath": "a.wav"}, {"audio_filepath": "b.wav"}]
    for _ in range(2):
        read = recogniser.cached_log_probs(tmp_path / "m.nemo", None, items, tmp_path, tmp_path)
        assert [each.shape for each in read] == [(2, 2), (3, 2)]
    assert len(runs) == 1


def test_speed_on_real_utterances(benchmark, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "REAL_PHRASES", 6)
    monkeypatch.setattr(benchmark, "SHORT_FRAMES", 100)
    monkeypatch.setattr(benchmark, "LONG_COPIES", 3)
    real = ["--log-probs", str(data / "test.npz"), "--manifest", str(data / "test.jsonl")]
    real += ["--tokenizer", str(data / "tokenizer.model"), "--json", str(tmp_path / "b.json"), "--repeats", "1"]
    assert benchmark.main([*real, "--utterances", "4"]) == 0
    report = json.loads((tmp_path / "b.json").read_text())
    ours, *others = report["timings"]
    assert (ours["decoder"], ours["phrases"], ours["decode_ratio"]) == ("nemo_bias", 6, 1)
    assert {row["phrases"] for row in others} == {6}
    names = {"greedy", "NeMo greedy_batch + tree", "NeMo beam_batch + tree", "NeMo CTC-WS", "nemo_bias adaptive"}
    assert names <= {row["decoder"] for row in others}
    for row in others:
        assert row["decode_ratio"] == pytest.approx(row["decode_seconds"] / ours["decode_seconds"])
    assert report["utterances"] == 4
    short, long = (report[f"ours, {frames} frames, seconds per 1,000 frames"] for frames in (100, 300))
    assert report["ours, long / short, seconds per frame"] == long / short > 0
    assert "| nemo_bias | 6 |" in capsys.readouterr().out


def test_batches_hold_every_frame_once(benchmark):
    utterances = [np.full((frames, 3), frames, np.float32) for frames in range(1, 21)]
    batches = benchmark._padded(utterances)
    assert [len(lengths) for _, lengths in batches] == [16, 4]
    assert sorted(length for _, lengths in batches for length in lengths) == list(range(1, 21))
    for padded, lengths in batches:
        assert padded.shape[1] == max(lengths)
        for row, length in zip(padded, lengths, strict=True):
            assert (row[:length] == length).all() and not row[length:].any()


def test_speed_needs_all_three_files(benchmark, data, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--log-probs", str(data / "test.npz"), "--tokenizer", str(data / "tokenizer.model")])
    assert "give --log-probs, --manifest and --tokenizer together" in capsys.readouterr().err
