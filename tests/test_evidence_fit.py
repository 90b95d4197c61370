"""The fit of the weights of evidence: a known model is recovered, and a written file weighs arcs as the fit did."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import speak

from nemo_bias.decoder.evidence import (
    CHARACTERS,
    CONFIDENCE,
    EDITS,
    FACTS,
    GAP,
    HITS,
    LEFTOVER,
    LIFT,
    TOKENS,
    VARIANT,
    WORDS,
    WORST,
)
from nemo_bias.decoder.probability import (
    OF_STAKES,
    STAKES,
    SURE,
    TERMS,
    UNSURE,
    WEIGHT_SETS,
    fact_terms_of,
    log_odds_of,
    probabilities,
    read_weights,
)
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import character_vocabulary
from nemo_bias.evaluation.arc_sets import ArcSet, losing_arcs, shares_of
from nemo_bias.evaluation.calibration import SetResult, bins_by_regime, calibration_markdown, risk_bins_by_regime
from nemo_bias.evaluation.evidence_fit import (
    FOLDS,
    KNOWN,
    arc_weights,
    columns_of,
    design_matrix,
    fit_files,
    logistic_regression,
)


def made_up_arcs(seed: int, adapter: bool, sounds: bool = True, phones: bool = False, count: int = 4000) -> ArcSet:
    """Arcs that are right with log-odds ``2 * certainty * tokens - worst_frame``, and more with an adapter's lift, less with
    what a phone head loses, what a variant costs, and their gap where they were looked up. Right words are lost by them with
    log-odds ``2 * confidence - 1``.
    """
    rng = np.random.default_rng(seed)
    utterance = np.sort(rng.integers(0, 200, count))
    certainty = rng.uniform(0.55, 0.98, 200)
    terms = rng.normal(size=(count, len(TERMS))).astype(np.float32)
    terms[:, 0] = 1
    position = {term: k for k, term in enumerate(TERMS)}
    odds = 2 * certainty[utterance] * terms[:, position["tokens"]] - terms[:, position["worst_frame"]]
    odds += adapter * terms[:, position["lift"]]
    odds -= phones * terms[:, position["phone_loss"]]
    looked_up = sounds & (rng.random(count) < 0.4)
    odds -= looked_up * terms[:, position["gap"]]
    odds -= terms[:, position["variant_cost"]]
    right = rng.random(count) < probabilities(odds)
    always = np.ones(count, np.bool_)
    loses = rng.random(count) < probabilities(2 * terms[:, position["confidence"]] - 1)
    return ArcSet(
        *("made up", "ls", "1,000", 1.0, adapter, phones, sounds, False),
        *(terms, looked_up, right, terms[:, OF_STAKES], always, always, loses, utterance, certainty),
        shares=np.ones(200),
    )


def test_a_logistic_model_is_recovered():
    rng = np.random.default_rng(1)
    matrix = rng.normal([3.0, -1.0], [2.0, 0.5], (20_000, 2))
    right = rng.random(len(matrix)) < probabilities(1.0 + matrix @ [0.5, 2.0])
    beta = logistic_regression(matrix, right, np.ones(len(matrix)))
    assert beta == pytest.approx([1.0, 0.5, 2.0], abs=0.1)


def test_columns_that_do_not_vary_get_no_weight():
    rng = np.random.default_rng(2)
    matrix = np.column_stack([rng.normal(size=500), np.full(500, 7.0)])
    beta = logistic_regression(matrix, matrix[:, 0] + rng.normal(size=500) > 0, np.ones(500))
    assert beta[1] > 1 and beta[2] == 0


@pytest.mark.parametrize(("with_frequencies", "with_sounds"), WEIGHT_SETS)
def test_written_weights_are_those_of_the_fit(with_frequencies, with_sounds, tmp_path):
    sets = [made_up_arcs(3 + adapter, adapter, sounds) for adapter in (False, True) for sounds in (True, False)]
    sets.append(made_up_arcs(5, adapter=False, phones=True))
    folds = fit_files(sets, tmp_path / "evidence.json", tmp_path)
    assert len(folds) == FOLDS and all(file.is_file() for file in folds)
    weights = read_weights(tmp_path / "evidence.json", with_frequencies, with_sounds)
    position = {term: k for k, term in enumerate(TERMS)}
    for certainty in (UNSURE, SURE):
        spotted = np.array([certainty]), np.array([False])
        (at,) = weights.of_arcs(*spotted, adapter=False, phones=False, language_model=False)
        assert at[position["tokens"]] == pytest.approx(2 * certainty, abs=0.25)
        assert at[position["worst_frame"]] == pytest.approx(-1, abs=0.25)
    assert weights.adapter[position["lift"]] == pytest.approx(1, abs=0.3)
    assert (weights.unsure[position["common"]] != 0) == with_frequencies
    assert (weights.unsure[position["sound"]] != 0) == with_sounds
    assert weights.phones[position["phone_loss"]] == pytest.approx(-1 if with_sounds else 0, abs=0.3)
    assert weights.looked_up[position["gap"]] == pytest.approx(-1 if with_sounds else 0, abs=0.3)
    risk = dict(zip(STAKES, weights.risk, strict=True))
    assert risk["confidence"] == pytest.approx(2, abs=0.3) and risk["constant"] == pytest.approx(-1, abs=0.3)
    assert (risk["common"] != 0) == with_frequencies


def test_there_are_no_weights_without_arcs_to_fit_them(tmp_path):
    fit_files([made_up_arcs(7, adapter=False)], tmp_path / "evidence.json", tmp_path, with_frequencies=False)
    assert list(json.loads((tmp_path / "evidence.json").read_text())) == ["without_frequencies"]
    with pytest.raises(ValueError, match=r"no weights of evidence .*'without_both'"):
        read_weights(tmp_path / "evidence.json", False, False)


def test_the_design_matrix_and_the_decoder_weigh_alike(tmp_path):
    arcs = made_up_arcs(5, adapter=True, phones=True)
    fit_files([arcs], tmp_path / "evidence.json", tmp_path)
    content = json.loads((tmp_path / "evidence.json").read_text())["all"]
    weights = read_weights(tmp_path / "evidence.json", True, True)
    columns = columns_of(True, True)
    slope = {t: (content["sure"][t] - content["unsure"][t]) / (SURE - UNSURE) for t in content["sure"]}

    def weight(column):
        if column.adapter:
            return content["adapter"][column.term]
        if column.phones:
            return content["phones"][column.term]
        if column.looked_up:
            return content["looked_up"][column.term]
        if column.times_certainty:
            return slope[column.term]
        return content["unsure"][column.term] - UNSURE * slope[column.term]

    constant = content["unsure"]["constant"] - UNSURE * slope["constant"]
    known = arcs.terms[:, [list(TERMS).index(term) for term in KNOWN]] @ list(KNOWN.values())
    expected = constant + known + design_matrix(arcs, columns) @ [weight(column) for column in columns]
    for k in range(0, len(expected), 500):
        own = arcs.certainty[arcs.utterance[k : k + 1]], arcs.looked_up[k : k + 1]
        at = weights.of_arcs(*own, adapter=True, phones=True, language_model=False)
        (odds,) = log_odds_of(arcs.terms[k : k + 1], at)
        assert odds == pytest.approx(expected[k], abs=1e-2)


def test_utterances_that_say_the_same_count_as_one():
    shares = shares_of([["knit"]] * 3 + [["knit", "purl"]] + [["bourbon"], []])
    assert shares == pytest.approx([0.25] * 3 + [0.4] + [1, (0.75 + 0.4 + 1) / 5])
    assert shares_of([[], []]).tolist() == [1, 1]


def test_the_right_arcs_of_a_set_weigh_as_much_as_its_regime():
    arcs = made_up_arcs(8, adapter=False, count=400)
    shares = np.where(np.arange(200) < 50, 0.1, 1.0)
    weights = arc_weights(replace(arcs, shares=shares, weight=3.0))
    assert weights[arcs.right].sum() == pytest.approx(300)
    assert weights[arcs.utterance < 50] == pytest.approx(weights[arcs.utterance >= 50][0] / 10)


def test_names_that_are_said_again_and_again_leave_the_probability_as_it_is():
    """Whether the other utterances have entities or not."""
    rng = np.random.default_rng(9)
    arcs = made_up_arcs(9, adapter=False)
    right = (arcs.utterance < 100) & (rng.random(len(arcs.right)) < 0.5)
    entities = [["knit"]] * 100 + [[]] * 100
    weights = arc_weights(replace(arcs, right=right, shares=shares_of(entities)))
    assert np.average(right, weights=weights) == pytest.approx(right.mean())


@pytest.mark.parametrize("language_model", [False, True])
def test_a_set_without_right_arcs_is_refused(language_model, tmp_path):
    arcs = replace(made_up_arcs(6, adapter=False, count=50), language_model=language_model)
    arcs.right[:] = False
    with pytest.raises(ValueError, match="made up, ls, 1,000 distractors: none of 50 arcs is right"):
        fit_files([arcs], tmp_path / "evidence.json", tmp_path)


def test_evidence_of_the_decoder(subwords):
    """All arcs are there, whatever their probability; each can be written alone."""
    log_probs = speak(subwords, ["▁no", "▁b", "o", "r", "n", "▁a"], heard={2: ("a", 0.7)})
    search = BiasedBeamSearch(subwords, threads=1)
    entities = search.compile(["born", "bern"])
    evidence = search.evidence(log_probs, entities)
    texts = {entities.phrases[phrase]: evidence.text_with(k) for k, phrase in enumerate(evidence.found.phrase)}
    assert texts["born"] == "no born a"
    assert evidence.found.terms.shape == (len(evidence.found.phrase), len(TERMS))


@pytest.mark.parametrize(
    ("heard", "said", "phrase", "loses"),
    [
        ("no barn a", "no barn a", "born", True),
        ("no barn a", "no born a", "born", False),
        ("no barn a", "no toast a", "born", False),
        ("no barn a", "no barn a", "born a", True),
        ("no barn a", "toast a", "born a", False),  # what is right of it, it writes itself
        ("no barn's a", "no barn's a", "born", True),
        ("no barn's a", "no born's a", "born", False),
        ("no a-barn a", "no o-born a", "born", False),
    ],
)
def test_arcs_that_replace_right_words_lose_them(heard, said, phrase, loses):
    vocabulary = character_vocabulary(" abenorst'-")
    vowel = heard.index("r") - 1  # of "born", which is heard as "barn"
    pieces = list((heard[:vowel] + "o" + heard[vowel + 1 :]).replace(" ", "▁"))
    log_probs = speak(vocabulary, pieces, heard={vowel: ("a", 0.6)})
    search = BiasedBeamSearch(vocabulary, threads=1)
    evidence = search.evidence(log_probs, search.compile([phrase]))
    assert evidence.greedy_text == heard
    own = [shown == phrase for shown in evidence.found.shown]
    assert any(own)
    lost = losing_arcs(evidence, tuple(said.split()))
    assert lost[own].all() == loses and lost[own].any() == loses


def test_without_wrong_arcs_nothing_tells_the_risk(tmp_path):
    arcs = made_up_arcs(8, adapter=False)
    arcs.right[:] = True
    with pytest.raises(ValueError, match="nothing tells when right words are lost"):
        fit_files([arcs], tmp_path / "evidence.json", tmp_path)


def test_calibration_tells_of_probabilities_and_risks():
    risk, loses = np.array([0.1, 0.1, 0.5, 0.9, 0.9], np.float32), np.array([False, True, True, True, True])
    probability, right = np.array([0.1, 0.3, 0.9, 1.0]), np.array([False, False, True, True])
    results = [SetResult(name, "ls", "1,000", right, probability, risk, loses, 1.0, None, None) for name in ("a", "a", "b")]
    both, one = bins_by_regime(results).values()
    assert [each.count for each in both] == [2, 0, 0, 4] and [each.count for each in one] == [1, 0, 0, 2]
    assert [(each.low, each.count, each.share) for each in risk_bins_by_regime(results)["b"]] == [
        (0.0, 2, 0.5),
        (0.2, 0, 0.0),
        (0.4, 1, 1.0),
        (0.6, 0, 0.0),
        (0.8, 2, 1.0),
    ]
    table = calibration_markdown(risk_bins_by_regime(results), "risk")
    assert table.splitlines()[0].startswith("| risk | 0 to 0.2 |") and "| b | 0.50 at 0.10 (2) | - | 1.00" in table


def test_facts_become_the_terms_of_their_names():
    facts = np.zeros((3, FACTS), np.float32)
    fact = {GAP: 2, WORST: 3, CHARACTERS: 5, TOKENS: 7, HITS: 4, LEFTOVER: 1, EDITS: 9, WORDS: 2, CONFIDENCE: -1, LIFT: 16}
    for place, value in {**fact, VARIANT: 0.25}.items():
        facts[1, place] = value
    (terms,) = fact_terms_of(facts, np.array([1]), np.array([6]), 1000)
    expected = {
        **{"constant": 1, "gap": 2, "loss_per_character": 3 / 5, "worst_frame": 3, "characters": 5, "tokens": 7},
        **{"missed_tokens": 3, "words": 2, "edits": 3, "confidence": np.exp(-1), "rivals": np.log(7)},
        **{"list_size": np.log(1000), "lift": 16, "root_lift": 4, "variant_cost": 0.25},
    }
    assert dict(zip(TERMS, terms.tolist(), strict=True)) == pytest.approx(
        {**dict.fromkeys(TERMS, 0.0), **expected}, rel=1e-5
    )
