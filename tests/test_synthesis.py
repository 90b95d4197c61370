"""Synthetic speech: what is said, what stays unheard, and runs that are repeated or continued."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
from itertools import islice
from pathlib import Path

import pytest
import soundfile

from nemo_bias.adapter.augmentation import SAMPLE_RATE
from nemo_bias.evaluation.manifest import ManifestError
from nemo_bias.synthesis import manifest as synthesis
from nemo_bias.synthesis.manifest import SynthesisConfig, prepare, synthesize
from nemo_bias.synthesis.sentences import SynthesisError, Utterance, read_sentences, utterances
from nemo_bias.synthesis.speech import LONGEST, SHORTEST, Speech, check_packages, speak

NAMES = ("ada", "bo lee", "cleo", "dov")


def write(path, *lines):
    """A file with the lines: JSON for mappings, else as they are."""
    path.write_text("".join((json.dumps(line) if isinstance(line, dict) else line) + "\n" for line in lines))
    return str(path)


def main(*arguments):
    """Runs the script here; returns the exit code."""
    script = Path(__file__).resolve().parent.parent / "scripts" / "synthesize.py"
    return runpy.run_path(str(script))["main"]([str(argument) for argument in arguments])


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def texts(path, names, count, insert=0.0, seed=0):
    """The first texts and entities that a file of sentences gives."""
    plan = islice(utterances(read_sentences(path), names, insert, seed), count)
    return {u.text: u.entities for u in plan}


@pytest.fixture
def silence(monkeypatch):
    """Speech without a voice: half a second per word, and bytes that tell the utterance."""

    def say(utterance, seed):
        assert utterance.text != "boom", "this sentence must not be spoken"
        return Speech(8000 * len(utterance.text.split()), f"{utterance.text} {seed}".encode())

    monkeypatch.setattr(synthesis, "speak", say)
    monkeypatch.setattr(synthesis, "check_packages", lambda: None)


def test_patterns_and_entities_are_slots(tmp_path):
    plain = write(tmp_path / "plain.txt", "Call {name}, not {name}!", "", "  stay   here ")
    assert texts(plain, ("ada",), 2) == {"call ada, not ada!": ("ada",), "stay here": ()}
    line = {"text": "new york is not new nor newer", "entities": ["New", "new york", "absent"]}
    manifest = write(tmp_path / "m.jsonl", line)
    assert texts(manifest, ("ada",), 1) == {"ada is not ada nor newer": ("ada",)}
    assert texts(manifest, (), 1) == {"new york is not new nor newer": ("new york", "new")}


def test_every_name_and_sentence_comes_once_before_any_repeats(tmp_path):
    path = write(tmp_path / "s.txt", "one {name}", "two {name}", "three {name}")
    plan = list(islice(utterances(read_sentences(path), NAMES, 0, seed=1), 12))
    said = [u.entities[0] for u in plan]
    assert all(sorted(said[i : i + 4]) == sorted(NAMES) for i in (0, 4, 8))
    starts = [u.text.split()[0] for u in plan]
    assert all(sorted(starts[i : i + 3]) == ["one", "three", "two"] for i in (0, 3, 6, 9))
    assert [u.number for u in plan] == list(range(12))
    assert plan == list(islice(utterances(read_sentences(path), NAMES, 0, seed=1), 12))
    assert plan != list(islice(utterances(read_sentences(path), NAMES, 0, seed=2), 12))


def test_names_replace_words_in_a_share_of_the_sentences(tmp_path):
    path = write(tmp_path / "s.txt", "he can't see the river", "so it is")
    assert texts(path, ("ada",), 2, insert=1) == {"he can't see the ada": ("ada",), "so it is": ()}
    one = write(tmp_path / "one.txt", "the river")
    plan = islice(utterances(read_sentences(one), ("ada",), 0.3, 0), 1000)
    assert 250 < sum(bool(u.entities) for u in plan) < 350


def test_names_are_written_as_the_sentences_are(tmp_path):
    sentences = write(tmp_path / "s.txt", "Call {name}")
    names = write(tmp_path / "n.txt", "Jürgen Müller-Weiß", "ada", "Ada", "北京")
    material = prepare(SynthesisConfig(sentences, 1, names))
    assert material.names == ("jurgen muller weiss", "ada")
    assert "北京" in material.unwritable[0]
    assert any("Jürgen" in note for note in material.notes)


def test_exclusion(tmp_path):
    sentences = write(tmp_path / "s.txt", "the new yorker", "in new york's rain", "call {name}", "new in york")
    names = write(tmp_path / "n.txt", "York Minster", "ada", "Jürgen's", "yorks", "new")
    dev = write(tmp_path / "dev.jsonl", {"text": "a", "entities": ["New York"]}, {"text": "no field"})
    test = write(tmp_path / "test.jsonl", {"text": "b", "entities": ["jürgen"]})
    material = prepare(SynthesisConfig(sentences, 1, names, (dev, test)))
    assert [s.text for s in material.sentences] == ["the new yorker", "call {name}", "new in york"]
    assert material.names == ("ada", "yorks")
    assert (material.sentences_excluded, material.names_excluded) == (1, 3)


def test_wrong_inputs_are_named(tmp_path):
    patterns = write(tmp_path / "s.txt", "call {name}")
    plain = write(tmp_path / "p.txt", "the river")
    without = write(tmp_path / "without.jsonl", {"text": "the river"})
    river = write(tmp_path / "river.jsonl", {"text": "the river", "entities": ["river"]})
    names = write(tmp_path / "n.txt", "river")
    for config, error, words in (
        (dict(sentences=patterns), SynthesisError, "s.txt.*slot.*names"),
        (dict(sentences=plain, exclude=(without,)), ManifestError, "without.jsonl.*entities"),
        (dict(sentences=plain, exclude=(river,)), SynthesisError, "p.txt.*all sentences are excluded"),
        (dict(sentences=patterns, names=names, exclude=(river,)), SynthesisError, "n.txt.*no name is left"),
        (dict(sentences=write(tmp_path / "b.txt", "call {person}")), SynthesisError, "b.txt.*{person}.*brace"),
        (dict(sentences=write(tmp_path / "e.txt", " ")), SynthesisError, "e.txt.*no sentences"),
        (dict(sentences=plain, insert=1.5), SynthesisError, "insert is 1.5"),
        (dict(sentences=plain, hours=0), SynthesisError, "hours is 0"),
    ):
        with pytest.raises(error, match=words):
            prepare(SynthesisConfig(**({"hours": 1} | config)))


def test_a_run_is_continued_where_it_ended(tmp_path, silence):
    sentences = write(tmp_path / "s.txt", "call {name} now", "tell {name} all of it", "x")
    config = SynthesisConfig(sentences, 60 / 3600, write(tmp_path / "n.txt", *NAMES))
    whole = synthesize(config, tmp_path / "whole")
    lines = whole.manifest.read_text().splitlines()
    assert 60 <= whole.seconds == sum(line["duration"] for line in read_lines(whole.manifest)) < 64
    assert (whole.utterances, whole.distinct_entities, whole.continued) == (len(lines), 4, 0)

    seconds = []
    part = tmp_path / "part"
    synthesize(config, part)
    (part / "manifest.jsonl").write_text("\n".join(lines[:5]) + "\n" + lines[5][:30])
    continued = synthesize(config, part, progress=seconds.append)
    assert (part / "manifest.jsonl").read_text() == whole.manifest.read_text()
    assert continued.continued == 5 and len(seconds) == 1 + len(lines) - 5
    assert sum(seconds) == whole.seconds
    for line in read_lines(whole.manifest):
        assert (part / line["audio_filepath"]).read_bytes() == (tmp_path / "whole" / line["audio_filepath"]).read_bytes()
    assert synthesize(config, part).continued == len(lines)


def test_another_run_is_not_continued(tmp_path, silence):
    path = tmp_path / "s.txt"
    config = SynthesisConfig(write(path, "one two three"), 1 / 3600)
    synthesize(config, tmp_path / "out")
    with pytest.raises(SynthesisError, match=r"made with seed = 0, not 1"):
        synthesize(SynthesisConfig(config.sentences, config.hours, seed=1), tmp_path / "out")
    write(path, "one two four")
    with pytest.raises(SynthesisError, match=r'holds "one two three" where .* "one two four"'):
        synthesize(config, tmp_path / "out")
    (tmp_path / "out" / "arguments.json").unlink()
    with pytest.raises(SynthesisError, match="was not made by this command"):
        synthesize(config, tmp_path / "out")


def test_long_and_short_speech_is_counted(tmp_path, monkeypatch):
    def say(utterance, seed):
        return Speech(16000, b"" if utterance.text == "long" else b"flac")

    monkeypatch.setattr(synthesis, "speak", say)
    monkeypatch.setattr(synthesis, "check_packages", lambda: None)
    summary = synthesize(SynthesisConfig(write(tmp_path / "s.txt", "long", "good"), 10 / 3600), tmp_path / "out")
    assert summary.utterances == 10 and summary.not_kept in (9, 10)
    assert {line["text"] for line in read_lines(summary.manifest)} == {"good"}
    config = SynthesisConfig(write(tmp_path / "l.txt", "long"), 1)
    with pytest.raises(SynthesisError, match="none of the sentences"):
        synthesize(config, tmp_path / "long")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hibari" else object())
    with pytest.raises(ModuleNotFoundError, match=r'no package hibari; pip install "nemo_bias\[synthesis\]"'):
        check_packages()


def test_real_speech(tmp_path, capsys):
    pytest.importorskip("hibari")
    sentences = write(
        tmp_path / "s.txt", "please call {name} in the morning", "{name} lives by the river", "where is {name}"
    )
    names = write(tmp_path / "n.txt", *NAMES)

    def made(folder, *options):
        """What the script makes: the lines, and the audio of each."""
        output = tmp_path / folder
        assert main("--sentences", sentences, "--names", names, "--hours", 0.002, "--output", output, *options) == 0
        assert "3 sentences, 0 more are excluded" in capsys.readouterr().out
        lines = read_lines(output / "manifest.jsonl")
        return lines, [(output / line["audio_filepath"]).read_bytes() for line in lines]

    lines, audio = made("one")
    assert sum(line["duration"] for line in lines) >= 7.2
    for line in lines:
        assert set(line) == {"audio_filepath", "duration", "text", "entities"}
        assert line["entities"][0] in NAMES and line["entities"][0] in line["text"]
        info = soundfile.info(tmp_path / "one" / line["audio_filepath"])
        assert (info.samplerate, info.channels, info.format) == (SAMPLE_RATE, 1, "FLAC")
        assert info.frames == round(line["duration"] * SAMPLE_RATE)
        assert 0.8 <= line["duration"] <= 8
    assert made("two", "--workers", 2) == (lines, audio)

    utterance = Utterance(0, lines[0]["text"])
    assert speak(utterance, 0).flac == audio[0]
    assert speak(utterance, 1).flac != audio[0]


def test_pace_and_voice_vary():
    hibari = pytest.importorskip("hibari")
    plain = len(hibari.Hibari()("Please call her in the morning.")) / hibari.SAMPLE_RATE
    ratios = [speak(Utterance(number, "please call her in the morning"), 0).duration / plain for number in range(15)]
    assert 0.8 / 1.2 - 0.05 < min(ratios) < 0.9
    assert 1.1 < max(ratios) < 1.18 / 0.8 + 0.05


def test_what_the_voice_cannot_say_is_named(tmp_path, capsys):
    pytest.importorskip("hibari")
    for text in ("北京 is here", "..."):
        with pytest.raises(SynthesisError, match=f'"{re.escape(text)}" cannot be spoken'):
            speak(Utterance(0, text), 0)
    for text in ("a", "well " * 150):
        speech = speak(Utterance(0, text), 0)
        assert not speech.flac and not SHORTEST <= speech.duration <= LONGEST
    sentences = write(tmp_path / "s.txt", "北京")
    assert main("--sentences", sentences, "--hours", 1, "--output", tmp_path / "out") == 2
    assert 'synthesize.py: "北京" cannot be spoken' in capsys.readouterr().err


def test_an_input_that_is_missing_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(synthesis, "check_packages", lambda: None)
    assert main("--sentences", tmp_path / "no.jsonl", "--hours", 1, "--output", tmp_path / "out") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("synthesize.py: ") and "no.jsonl" in last
    assert not (tmp_path / "out").exists()
