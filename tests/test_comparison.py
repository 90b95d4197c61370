import json
import subprocess
import sys

import numpy as np
import pytest

from nemo_bias.evaluation.comparison import (
    ComparisonRow,
    ExperimentList,
    System,
    Utterances,
    compare,
    comparison_json,
    comparison_markdown,
    experiment_list,
    tune,
)

ITEMS = [
    {"text": "we met barack obama", "duration": 3600.0, "entities": ["barack obama"]},
    {"text": "in utrecht with barack obama", "duration": 3600.0, "entities": ["utrecht", "barack obama"]},
    {"text": "on a tuesday", "duration": 3600.0, "entities": []},
]
DISTRACTORS = ["tuesday weld", "utrecht", "zagreb", "new delhi", "", "zagreb", "kyoto"]


class ToySystem(System):
    """Up to `peak` it misses entities; beyond, it invents them. Log-probs hold each utterance's number."""

    name = "toy"

    def __init__(self, values, peak, **attributes):
        self.weights = [{"weight": value} for value in values]
        self.peak = peak
        self.prepared = []
        self.decoded = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def prepare(self, phrases, weights):
        self.prepared.append((tuple(phrases), weights["weight"]))

        def decode(log_probs):
            texts = [ITEMS[int(each[0, 0])]["text"] for each in log_probs]
            self.decoded.append(len(texts))
            if weights["weight"] < self.peak:
                return [text.replace("barack obama", "a llama") for text in texts]
            return [text + " zagreb" * int(weights["weight"] > self.peak) for text in texts]

        return decode


GREEDY = ["we met barack obama", "in utrecht with a llama", "on a tuesdays"]


def utterances():
    return Utterances(ITEMS, [np.full((1, 1), k, np.float32) for k in range(len(ITEMS))], GREEDY)


def run(systems, progress=lambda text: None, **lists):
    """Compares with the same list for both sets: entities and two distractors."""
    chosen = {"dev_list": experiment_list(ITEMS, DISTRACTORS, 2), "test_list": experiment_list(ITEMS, DISTRACTORS, 2)}
    return compare(systems, "cv", utterances(), utterances(), **(chosen | lists), progress=progress)


def test_list_is_entities_then_distractors_that_nobody_says():
    entities = ("barack obama", "utrecht")
    assert experiment_list(ITEMS, DISTRACTORS, 0) == ExperimentList("0", entities, ())
    assert experiment_list(ITEMS, DISTRACTORS, 2) == ExperimentList("2", entities, ("zagreb", "new delhi"))
    assert experiment_list(ITEMS, DISTRACTORS, 2).phrases == (*entities, "zagreb", "new delhi")
    longer = experiment_list(iter(ITEMS), iter(DISTRACTORS), 3)
    assert longer.distractors[-1] == "kyoto"  # neither "" nor zagreb again
    assert experiment_list(ITEMS, [f"name{k}" for k in range(2000)], 1500).name == "1,500"


def test_a_near_list_has_all_phrases_but_entities():
    near = experiment_list(ITEMS, ["tuesday weld", "utrecht", "barrack", "", "barrack", "in"])
    assert near == ExperimentList("3 near", ("barack obama", "utrecht"), ("tuesday weld", "barrack", "in"))


def test_list_needs_enough_distractors():
    with pytest.raises(ValueError, match="4 distractors wanted, but only 3"):
        experiment_list(ITEMS, DISTRACTORS, 4)


def test_an_entity_that_no_reference_holds_is_not_counted_twice():
    items = [{"text": "hello", "entities": ["zagreb"]}]
    assert experiment_list(items, DISTRACTORS, 2).phrases == ("zagreb", "tuesday weld", "utrecht")


@pytest.mark.parametrize("values", [(1, 2, 3, 4), (4, 3, 2, 1)])
def test_tuning_finds_the_best_f1(values):
    system = ToySystem(values, peak=3)
    assert tune(system, utterances(), ["barack obama", "utrecht", "zagreb"]) == {"weight": 3}
    assert [weight for _, weight in system.prepared] == list(values)


def test_of_equally_good_weights_the_first_wins():
    assert tune(ToySystem((0, 5, 6), peak=4), utterances(), ["utrecht"]) == {"weight": 5}  # F1 100 each; WER decides
    assert tune(ToySystem((2, 1), peak=4), utterances(), ["utrecht"]) == {"weight": 2}


def test_a_single_weight_is_not_tried():
    system = ToySystem((7,), peak=3)
    assert tune(system, utterances(), ["utrecht"]) == {"weight": 7}
    assert not system.prepared


def test_tuning_may_use_part_of_the_data():
    system = ToySystem((1, 2), peak=2, tuning_utterances=2)
    tune(system, utterances(), ["utrecht"])
    assert system.decoded == [2, 2]
    assert [item["text"] for item in utterances().spread(2).items] == [ITEMS[0]["text"], ITEMS[1]["text"]]
    assert utterances().spread(2).greedy_texts == GREEDY[:2]
    assert len(utterances().spread(9).items) == 3


def test_comparison_tunes_then_measures():
    system = ToySystem((1, 2, 3), peak=2)
    short = ToySystem((1,), peak=1, most_phrases=3)
    shown = []
    row, not_run = run([system, short], shown.append)
    assert (row.source, row.system, row.distractors, row.phrases) == ("cv", "toy", "2", 4)
    assert row.weights == {"weight": 2} and not row.at_edge
    assert (row.f1, row.precision, row.recall, row.false_alarms_per_hour, row.wer) == (100.0, 100.0, 100.0, 0.0, 0.0)
    assert row.compile_seconds >= 0 and row.real_time_factor == row.decode_seconds / (3 * 3600)
    assert not_run == ComparisonRow("cv", "toy", "2", 4)
    assert not short.prepared
    assert shown == ["toy: weight 1", "toy: weight 2", "toy: weight 3", "toy: test"]


def test_a_weight_at_the_edge_of_its_grid_is_marked():
    (row,) = run([ToySystem((1, 2), peak=2)])
    assert row.at_edge
    (row,) = run([ToySystem((2,), peak=2)])
    assert not row.at_edge


def test_dev_and_test_have_lists_of_their_own():
    system = ToySystem((1, 2), peak=2)
    near = experiment_list(ITEMS, ["zagreb"])
    (row,) = run([system], test_list=near)
    assert [len(phrases) for phrases, _ in system.prepared] == [4, 4, 3, 1]
    assert (row.distractors, row.phrases) == ("1 near", 3)


class Echo(System):
    """Writes the same texts whatever it hears, and others if `whole` is not in its list."""

    name = "echo"
    weights = ({},)

    def __init__(self, whole, texts, others):
        self.whole, self.texts, self.others = whole, texts, others

    def prepare(self, phrases, weights):
        return lambda log_probs: self.texts if self.whole in phrases else self.others


def test_harm_help_and_distractors_alone():
    texts = ["we meet barack obama", "in utrecht with barack obama", "on the tuesday"]
    (row,) = run([Echo("utrecht", texts, ["zagreb", *texts[1:]])])
    # Outside the list: we met in with on a tuesday. The list spoils met and a, and repairs tuesday.
    assert (row.harmed, row.helped) == (pytest.approx(1000 * 2 / 7), pytest.approx(1000 * 1 / 7))
    assert row.distractors_wer == pytest.approx(100 * 5 / 12)
    (row,) = run([Echo("utrecht", GREEDY, GREEDY)])
    assert (row.harmed, row.helped) == (0, 0)
    (row,) = run([Echo("utrecht", texts, texts)], test_list=experiment_list(ITEMS, [], 0))
    assert row.distractors_wer is None


def test_log_probs_texts_and_items_must_match():
    with pytest.raises(ValueError, match="3 manifest items, but log-probs of 1"):
        Utterances(ITEMS, [np.zeros((1, 1), np.float32)], GREEDY)
    with pytest.raises(ValueError, match="of 3 utterances and 2 greedy texts"):
        Utterances(ITEMS, utterances().log_probs, GREEDY[:2])


FIGURES = {"f1": 50.0, "precision": 60.0, "recall": 40.0, "false_alarms_per_hour": 1.0}
FIGURES |= {"wer": 9.5, "u_wer": 9.0, "b_wer": 20.0}
FIGURES |= {"harmed": 1.25, "helped": 2.0, "distractors_wer": 9.75}
FIGURES |= {"compile_seconds": 0.1, "decode_seconds": 2.0, "real_time_factor": 0.001}
ROWS = [
    ComparisonRow("cv", "ours", "10 near", 12, {"a": 0.5, "b": 2.0}, True, **FIGURES),
    ComparisonRow("cv", "slow", "10", 12),
    ComparisonRow("cv", "greedy", "10", 12, {}, f1=0.0),
]


def test_markdown():
    lines = comparison_markdown(ROWS).splitlines()
    assert lines[0].startswith("| source | distractors | phrases | system | weights | F1 % |")
    assert "| B-WER % | harmed / 1,000 | helped / 1,000 | WER %, distractors only | compile s |" in lines[0]
    assert lines[2] == (
        "| cv | 10 near | 12 | ours | a 0.5, b 2 \\* | 50.0 | 60.0 | 40.0 | 1.0 | 9.50 | 9.00 | 20.00 | 1.2 | 2.0 | 9.75 "
        "| 0.10 | 2.00 | 0.00100 |"
    )
    assert lines[3] == "| cv | 10 | 12 | slow | not run |" + " - |" * 13
    assert lines[4] == "| cv | 10 | 12 | greedy | - | 0.0 |" + " - |" * 12
    assert lines[6] == "\\* the lowest or highest value that was tried"
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert "tried" not in comparison_markdown(ROWS[1:])


def test_json():
    report = json.loads(comparison_json(ROWS, model="m.nemo"))
    assert report["model"] == "m.nemo"
    assert report["rows"][0]["weights"] == {"a": 0.5, "b": 2.0}
    assert report["rows"][1]["f1"] is None


def test_module_does_not_import_nemo():
    code = "import sys, nemo_bias.evaluation.comparison; print({m.split('.')[0] for m in sys.modules} & {'nemo', 'torch'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
