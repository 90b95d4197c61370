import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_bias.evaluation import (
    BiasingScore,
    ManifestError,
    manifest_words,
    markdown_table,
    read_manifest,
    score,
    score_manifest,
    write_manifest,
)

SCRIPT = Path(__file__).parent.parent / "scripts" / "evaluate.py"


def score_one(reference, hypothesis, phrases, known_words=None):
    return score([reference], [hypothesis], phrases, [3600.0], known_words)


def hits(result):
    return result.true_positives, result.misses, result.false_alarms


# reference, hypothesis, phrases, (true positives, misses, false alarms), (B errors, B words), (U errors, U words)
WORKED = {
    "example of the docstring": (
        "cork and new york we saw",
        "quark and new york we saw york",
        ["york", "new york", "cork"],
        (2, 1, 1),
        (2, 3),
        (0, 3),
    ),
    "substitution inside a phrase": ("in new york now", "in new yorke now", ["new york"], (0, 1, 0), (1, 2), (0, 2)),
    "deletion inside a phrase": ("in new york now", "in york now", ["new york"], (0, 1, 0), (1, 2), (0, 2)),
    "insertion of a distractor": ("we go now", "we go now cork", ["york", "cork"], (0, 0, 1), (1, 0), (0, 3)),
    "a distractor for a common word": ("we go now", "we cork now", ["cork"], (0, 0, 1), (0, 0), (1, 3)),
    "a distractor for a name": ("in york now", "in cork now", ["york", "cork"], (0, 1, 1), (1, 1), (0, 2)),
    "nested phrases": ("in new york", "in new york", ["york", "new york"], (2, 0, 0), (0, 2), (0, 1)),
    "nested phrases, half heard": ("in new york", "in york", ["york", "new york"], (1, 1, 0), (1, 2), (0, 1)),
    "overlapping phrases": ("a b c", "a b d", ["a b", "b c"], (1, 1, 0), (1, 3), (0, 0)),
    "a phrase overlapping itself": ("a a a", "a a", ["a a"], (1, 1, 0), (1, 3), (0, 0)),
    "repeated phrases": ("cork or cork or york", "cork or cork or york", ["cork"], (2, 0, 0), (0, 2), (0, 3)),
    "one of two repeats": ("cork it is cork", "cork it is fork", ["cork"], (1, 1, 0), (1, 2), (0, 2)),
    "right word, wrong place": ("cork it is now", "fork it is cork", ["cork"], (0, 1, 1), (1, 1), (1, 3)),
    "a word inserted into the phrase": ("in new york", "in new big york", ["new york"], (0, 1, 0), (0, 2), (1, 1)),
    "a word of the reference left out": ("in new old york", "in new york", ["new york"], (0, 0, 1), (0, 0), (1, 4)),
    "alignment split by a stutter": ("in new york", "in new new york", ["new york"], (1, 0, 0), (1, 2), (0, 1)),
    "empty hypothesis": ("in new york", "", ["new york"], (0, 1, 0), (2, 2), (1, 1)),
    "empty reference": ("", "new york", ["new york"], (0, 0, 1), (2, 0), (0, 0)),
    "a lone word of a phrase is no occurrence": ("york is old", "cork is old", ["new york"], (0, 0, 0), (0, 0), (1, 3)),
    "part of a longer phrase": ("new york", "new york", ["new york city"], (0, 0, 0), (0, 0), (0, 2)),
    "spaces and repeats in the list": ("new york", " new  york", ["new  york ", "new york"], (1, 0, 0), (0, 2), (0, 0)),
    "case is kept": ("york", "york", ["York"], (0, 0, 0), (0, 0), (0, 1)),
}


@pytest.mark.parametrize("case", WORKED.values(), ids=WORKED)
def test_worked_counts(case):
    reference, hypothesis, phrases, expected_hits, expected_b, expected_u = case
    result = score_one(reference, hypothesis, phrases)
    assert hits(result) == expected_hits
    assert (result.b_errors, result.b_words) == expected_b
    assert (result.u_errors, result.u_words) == expected_u


def test_worked_rates():
    # Two utterances, 900 s each. Occurrences: new york (hit), york (hit), cork (miss); false alarms: york, york.
    result = score(
        ["in new york", "is cork far from here"],
        ["in new york", "is york far from here york"],
        iter(["new york", "york", "cork"]),
        [900, 900],
        known_words=["in", "new", "york", "is"],
    )
    assert hits(result) == (2, 1, 2)
    assert result.wer == pytest.approx(100 * 2 / 8)
    assert result.b_wer == pytest.approx(100 * 2 / 3)
    assert result.u_wer == 0
    assert result.precision == pytest.approx(50)
    assert result.recall == pytest.approx(100 * 2 / 3)
    assert result.f1 == pytest.approx(400 / 7)
    assert result.false_alarms_per_hour == pytest.approx(4)
    assert (result.oov_recall, result.oov_occurrences) == (0, 1)
    assert result.as_dict()["f1"] == 57.14
    assert result.as_dict()["occurrences"] == 3
    json.dumps(result.as_dict(), allow_nan=False)


def test_oov_recall_takes_phrases_with_one_unknown_word():
    reference = "from new york to cork by old ross"
    hypothesis = "from new york to york by old ross"
    known = {"from", "new", "to", "cork", "by", "old", "york"}
    result = score_one(reference, hypothesis, ["new york", "cork", "old ross"], known)
    assert (result.oov_occurrences, result.oov_true_positives, result.oov_recall) == (1, 1, 100)
    result = score_one(reference, hypothesis, ["new york", "cork", "old ross"], known - {"york", "cork"})
    assert (result.oov_occurrences, result.oov_true_positives) == (3, 2)
    assert score_one(reference, hypothesis, ["cork"]).oov_recall is None
    assert score_one(reference, hypothesis, ["cork"], known).oov_recall is None
    assert score_one(reference, hypothesis, ["cork"], known).oov_occurrences == 0
    assert score_one(reference, hypothesis, ["cork"], []).oov_occurrences == 1


# reference, hypothesis, baseline, (harmed, helped); the list is york, new york, cork
HARM = {
    "example of the docstring": (
        "we saw cork and new york",
        "we saw cork an new york",
        "we so quark and new york",
        (1, 1),
    ),
    "nothing changed": ("we saw york", "we so cork", "we so cork", (0, 0)),
    "listed words are neither": ("we saw new york", "we saw cork", "we saw new york", (0, 0)),
    "a lone word of a phrase is not listed": ("a new car", "a york car", "a new car", (1, 0)),
    "wrong in two ways is no harm": ("we saw it", "we york it", "we so it", (0, 0)),
    "deleted": ("we saw it", "we it", "we saw it", (1, 0)),
    "inserted words are no reference words": ("we saw it", "we saw york it", "we saw it", (0, 0)),
    "the right word at another place": ("we saw it now", "we it now saw", "we saw it now", (1, 0)),
    "no baseline text": ("we saw york", "we saw york", "", (0, 2)),
}


@pytest.mark.parametrize("case", HARM.values(), ids=HARM)
def test_harm(case):
    reference, hypothesis, baseline, expected = case
    phrases = ["york", "new york", "cork"]
    result = score([reference], [hypothesis], phrases, [1.0], baseline=[baseline])
    assert (result.harmed, result.helped) == expected
    turned = score([reference], [baseline], phrases, [1.0], baseline=[hypothesis])
    assert (turned.helped, turned.harmed) == expected


def test_harm_per_thousand_words_outside_the_list():
    references = ["we saw cork and new york", "it is so"]
    hypotheses = ["we saw cork an new york", "york is york"]
    baseline = ["we so quark and new york", "it is so"]
    result = score(references, hypotheses, ["york", "new york", "cork"], [1.0, 1.0], baseline=baseline)
    assert (result.harmed, result.helped, result.u_words) == (3, 1, 6)
    assert (result.harmed_per_thousand, result.helped_per_thousand) == (500, pytest.approx(1000 / 6))
    assert result.as_dict()["harmed"] == 3
    assert result.as_dict()["helped_per_thousand"] == 166.67
    without = score(references, hypotheses, ["york"], [1.0, 1.0])
    assert (without.harmed, without.helped, without.harmed_per_thousand, without.helped_per_thousand) == (None,) * 4
    only_listed = score(["york"], ["york"], ["york"], [1.0], baseline=["york"])
    assert (only_listed.harmed, only_listed.harmed_per_thousand) == (0, None)


def test_rates_without_denominator_are_none():
    result = score_one("a b", "a c", [])
    assert (result.precision, result.recall, result.f1, result.b_wer) == (None, None, None, None)
    assert (result.wer, result.u_wer, result.false_alarms_per_hour) == (50, 50, 0)
    nothing = score([], [], ["york"], [])
    assert set(nothing.as_dict().values()) == {None, 0}
    only_false_alarms = score_one("a", "york", ["york"])
    assert (only_false_alarms.precision, only_false_alarms.recall, only_false_alarms.f1) == (0, None, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], [], ["b"], [1.0]), "1 references, 0 hypotheses and 1 durations"),
        ((["a"], ["a"], ["b"], []), "1 references, 1 hypotheses and 0 durations"),
        ((["a"], ["a"], ["b"], [-1.0]), "duration 0 is -1.0"),
        ((["a"], ["a"], ["b"], [float("nan")]), "duration 0 is nan"),
        ((["a"], ["a"], ["b", " "], [1.0]), "phrase 2 of the list"),
        ((["a"], ["a"], ["b"], [1.0], None, []), "1 references, but a baseline of 0"),
    ],
)
def test_arguments_that_cannot_be_scored(arguments, message):
    with pytest.raises(ValueError, match=message):
        score(*arguments)


words = st.sampled_from("abc")
texts = st.lists(words, max_size=8).map(" ".join)
phrase_lists = st.lists(st.lists(words, min_size=1, max_size=3).map(" ".join), max_size=5)


@given(st.lists(texts, max_size=4), phrase_lists)
def test_perfect_hypotheses(references, phrases):
    result = score(references, references, phrases, [1.0] * len(references), known_words="ab")
    assert result.errors == 0
    assert result.wer in (0, None)
    assert result.f1 == (100 if result.occurrences else None)
    assert result.oov_recall == (100 if result.oov_occurrences else None)


@given(st.lists(st.tuples(texts, texts), max_size=4), phrase_lists)
def test_counts_agree_with_the_edit_distance_and_each_other(pairs, phrases):
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    result = score(references, hypotheses, phrases, [1.0] * len(pairs), known_words="ab")
    assert result.errors == sum(kaldialign.edit_distance(r.split(), h.split())["total"] for r, h in pairs)
    assert result.b_errors + result.u_errors == result.errors
    assert 0 <= result.b_errors <= result.errors
    assert result.b_words + result.u_words == result.words == sum(len(r.split()) for r in references)
    assert result.true_positives + result.misses == occurrences_by_hand(references, phrases)
    assert result.true_positives + result.false_alarms == occurrences_by_hand(hypotheses, phrases)
    assert 0 <= result.oov_true_positives <= result.oov_occurrences <= result.occurrences


def occurrences_by_hand(texts, phrases):
    padded = [f" {text} " for text in texts]
    return sum(
        text.startswith(f" {phrase} ", start) for text in padded for phrase in set(phrases) for start in range(len(text))
    )


@given(st.lists(words, max_size=4), st.lists(words, max_size=4), st.sampled_from(["x", "x y", "x y x", "x x"]))
def test_a_phrase_whose_neighbours_are_wrong_is_still_a_hit(before, after, phrase):
    reference = " ".join([*before, phrase, *after])
    hypothesis = " ".join(["d" if word == "a" else word for word in [*before, phrase, *after]])
    assert hits(score_one(reference, hypothesis, [phrase])) == (1, 0, 0)


def test_a_list_of_100_000_phrases():
    phrases = [f"san name{number} place" for number in range(100_000)]
    result = score_one("in san name77 place " * 50, "in san name77 place " * 50, phrases)
    assert hits(result) == (50, 0, 0)


def test_markdown_table():
    plain, with_oov = score_one("in york", "in cork", ["york", "cork"]), score_one("a", "a", [], known_words=["a"])
    lines = markdown_table({"greedy|x": plain, "biased": with_oov}).split("\n")
    assert lines[0].endswith("| OOV recall % | OOV occurrences |")
    assert lines[2] == r"| greedy\|x | 50.00 | 100.00 | 0.00 | 0.00 | 0.00 | 0.00 | 1 | 1.00 | - | - |"
    assert lines[3] == "| biased | 0.00 | - | 0.00 | - | - | - | 0 | 0.00 | - | 0 |"
    assert "OOV" not in markdown_table({"greedy": plain})
    compared = score(["is it a york"], ["is it an york"], ["york"], [1.0], baseline=["is hit a york"])
    lines = markdown_table({"greedy": plain, "compared": compared}).split("\n")
    assert lines[0].endswith("| harmed / 1,000 | helped / 1,000 |")
    assert lines[2].endswith("| - | - |")
    assert lines[3].endswith("| 333.33 | 333.33 |")
    assert "harmed" not in markdown_table({"greedy": plain})


ITEM = {"audio_filepath": "a.wav", "duration": 1.5, "text": "à york", "pred_text": "a york"}


def test_manifest_round_trip(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [ITEM, {"text": "line\u2028separator"}])
    assert read_manifest(path) == [ITEM, {"text": "line\u2028separator"}]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ITEM).encode() + b"\r\n\r\n  \n")
    assert read_manifest(path, tuple(ITEM)) == [ITEM]
    with pytest.raises(TypeError):
        write_manifest(path, [ITEM, {"text": object()}])
    assert read_manifest(path) == [ITEM]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", r":2: not JSON \(.*\); write one JSON object per line"),
        (b'{"text": "\xe0"}', r":2: not UTF-8 \(byte 11 of the line\); save"),
        (b"[1]", ":2: a JSON list; write one JSON object"),
        (b"null", ":2: a JSON NoneType; write one JSON object"),
        (b"{}", ":2: no field 'text'; add it, the line has no fields"),
        (b'{"text": "a"}', ":2: no field 'duration'; add it, the line has text"),
        (b'{"text": null, "duration": 1}', ":2: field 'text' is None; make it a string"),
        (b'{"text": "a", "duration": "1"}', ":2: field 'duration' is '1'; make it a number"),
        (b'{"text": "a", "duration": true}', ":2: field 'duration' is True; make it a number"),
        (b'{"text": "a", "duration": NaN}', ":2: field 'duration' is nan; make it a number"),
        (b'{"text": "a", "duration": -1}', ":2: field 'duration' is -1; make it a number"),
        (b'{"text": "a", "duration": 1' + b"0" * 400 + b"}", ":2: field 'duration' is 1"),
    ],
)
def test_broken_manifest(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    path.write_bytes(json.dumps(ITEM).encode() + b"\n" + line + b"\n")
    with pytest.raises(ManifestError, match=f"{path}{message}"):
        read_manifest(path, ("text", "duration"))


def test_score_manifest_lowers_the_list_to_lower_case_references(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [ITEM])
    result = score_manifest(path, ["York", "Cork"], known_words=["York"])
    assert (hits(result), result.oov_occurrences, result.duration_seconds) == ((1, 0, 0), 0, 1.5)
    write_manifest(path, [ITEM, {**ITEM, "text": "York", "pred_text": "York"}])
    assert hits(score_manifest(path, ["York", "Cork"])) == (1, 0, 0)
    assert manifest_words(path) == {"à", "york", "York"}
    path.write_text("")
    with pytest.raises(ManifestError, match="no utterances"):
        score_manifest(path, ["York"])


def test_score_manifest_with_a_baseline(tmp_path):
    path, baseline = tmp_path / "m.jsonl", tmp_path / "b.jsonl"
    write_manifest(path, [ITEM, ITEM])
    write_manifest(baseline, [{**ITEM, "pred_text": "à cork"}, {**ITEM, "audio_filepath": "/elsewhere/a.wav"}])
    result = score_manifest(path, ["York", "Cork"], baseline=baseline)
    assert (result.harmed, result.helped, result.harmed_per_thousand) == (1, 0, 500)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([ITEM, {**ITEM, "text": "x"}], ":3: field 'text' is 'x', but 'à york' in {path}; give predictions of the same"),
        ([ITEM, {**ITEM, "duration": 9}], ":3: field 'duration' is 9, but 1.5 in {path}; give"),
        ([ITEM], ":1: 1 utterances, but 2 in {path}; give"),
        ([ITEM, ITEM, ITEM], ":4: 3 utterances, but 2 in {path}; give"),
        ([], ":1: 0 utterances, but 2 in {path}; give"),
        ([ITEM, {"text": "x"}], ":3: no field 'duration'"),
    ],
)
def test_a_baseline_of_other_utterances(tmp_path, items, message):
    path, baseline = tmp_path / "m.jsonl", tmp_path / "b.jsonl"
    write_manifest(path, [ITEM, ITEM])
    baseline.write_text("\n\n".join(json.dumps(item) for item in items[:2]) + "\n")
    with open(baseline, "a") as file:
        file.writelines(json.dumps(item) + "\n" for item in items[2:])
    with pytest.raises(ManifestError, match=re.escape(f"{baseline}{message.format(path=path)}")):
        score_manifest(path, ["York"], baseline=baseline)


@pytest.fixture
def evaluate():
    pytest.importorskip("nemo_bias.entities")
    spec = importlib.util.spec_from_file_location("evaluate_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_evaluate_script(tmp_path, capsys, evaluate):
    predictions, entity_file, report = tmp_path / "p.jsonl", tmp_path / "names.txt", tmp_path / "scores.json"
    write_manifest(predictions, [ITEM])
    entity_file.write_text("York\nNew Ross\n")
    arguments = [str(predictions), "--entity-file", str(entity_file), "--train-manifest", str(predictions)]
    assert evaluate([*arguments, "--json", str(report)]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[2].startswith(f"| {predictions} | 50.00 | 0.00 | 100.00 |")
    assert json.loads(report.read_text())[str(predictions)]["recall"] == 100


def test_evaluate_script_with_a_baseline(tmp_path, capsys, evaluate):
    predictions, baseline, entity_file = tmp_path / "p.jsonl", tmp_path / "b.jsonl", tmp_path / "names.txt"
    write_manifest(predictions, [ITEM])
    write_manifest(baseline, [{**ITEM, "pred_text": "à cork"}])
    entity_file.write_text("York\n")
    assert evaluate([str(predictions), "--entity-file", str(entity_file), "--baseline", str(baseline)]) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.endswith("| harmed / 1,000 | helped / 1,000 |") and row.endswith("| 1000.00 | 0.00 |")


@pytest.mark.parametrize("broken", ["predictions", "train", "entities", "missing", "baseline"])
def test_evaluate_script_reports_bad_input_in_one_line(tmp_path, capsys, evaluate, broken):
    predictions, train, entity_file = tmp_path / "p.jsonl", tmp_path / "t.jsonl", tmp_path / "names.txt"
    write_manifest(predictions, [ITEM if broken != "predictions" else {"text": "a"}])
    write_manifest(train, [ITEM if broken != "train" else {}])
    entity_file.write_bytes(b"York\n" if broken != "entities" else b"\xff\xfe\xff\n")
    if broken == "missing":
        predictions.unlink()
    baseline = tmp_path / "b.jsonl"
    write_manifest(baseline, [ITEM if broken != "baseline" else {**ITEM, "text": "another"}])
    arguments = [str(predictions), "--entity-file", str(entity_file), "--train-manifest", str(train)]
    assert evaluate([*arguments, "--baseline", str(baseline)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("evaluate.py: ")
    assert output.err.count("\n") == 1


def test_score_is_immutable():
    result = score_one("a", "a", ["a"])
    assert isinstance(result, BiasingScore)
    with pytest.raises(AttributeError):
        result.words = 3


def test_evaluation_imports_neither_torch_nor_nemo():
    code = "import sys, nemo_bias.evaluation; sys.exit(any(name in sys.modules for name in ('torch', 'nemo')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent.parent, check=False).returncode == 0
