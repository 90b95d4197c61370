"""Fits the weights of evidence: a logistic regression on arcs of which it is known whether they are right.

The log-odds of an arc are a constant and a weight times each term. How well the tokens fit says the more the surer the
recogniser is: for the terms in `BY_CERTAINTY`, the weight is a straight line over the certainty of the utterance, between
those at `UNSURE` and `SURE`. An adapter, a phone head and arcs that were looked up have weights of their own for some
terms.

The weights of `risk` follow: of arcs that are wrong and replace other words, whether right words are lost by them. Each
counts as much as it is likely.

Each set of arcs counts the same, however many arcs it has: its right arcs weigh 100, times the weight of its regime. Within
a set, utterances that say the same entities count as one: recordings of one book name its heroes again and again, and what
holds for one name would rule the fit. A ridge of `RIDGE` on standardised columns keeps the weights finite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS
from nemo_bias.decoder.phone_evidence import PHONE_TERMS
from nemo_bias.decoder.probability import (
    DEFAULT_FILE,
    LEAST_CERTAINTY,
    STAKES,
    SURE,
    TERMS,
    UNSURE,
    WEIGHT_SETS,
    EvidenceWeights,
    probabilities,
    read_weights,
)
from nemo_bias.evaluation.arc_sets import ArcSet

RIDGE = 1e-2
FOLDS = 4
STEPS = 50  # of Newton's method, at most
FREQUENCY_TERMS = ("soundalike", "common", "common_and_sure", "common_and_more", "tie")
LANGUAGE_MODEL_TERMS = ("constant", *LANGUAGE_TERMS)
SOUND_TERMS = ("soundalike", "sound")
BY_CERTAINTY = ("constant", "worst_frame", "characters", "tokens", "missed_tokens", "confidence")
KNOWN = {"variant_cost": -1.0}  # weights that are not fitted
LIFTS = ("lift", "root_lift")
ADAPTER_TERMS = ("constant", "gap", "characters", *LIFTS)
HEAD_TERMS = ("constant", "loss_per_character", "edits", "sound", *PHONE_TERMS)
LOOKUP_TERMS = ("constant", "gap", "loss_per_character", "edits", "confidence", "sound")

Part = dict[str, float]  # a weight for each term
WeightSet = dict[str, Part]  # the parts in `probability.PARTS`


class Column(NamedTuple):
    """A column of the design matrix: a term, as it is or times the certainty.

    For all arcs, or those with an adapter, or those with a phone head, or those that were looked up.
    """

    term: str
    times_certainty: bool = False
    adapter: bool = False
    phones: bool = False
    looked_up: bool = False


def columns_of(with_frequencies: bool, with_sounds: bool) -> list[Column]:
    """The columns of the design matrix; the constant is none of them."""
    unused = (*(() if with_frequencies else FREQUENCY_TERMS), *(() if with_sounds else SOUND_TERMS))
    unknown = (*unused, *KNOWN, *LIFTS, *PHONE_TERMS, *LANGUAGE_TERMS)
    terms = [term for term in TERMS if term not in unknown]
    plain = [Column(term) for term in terms if term != "constant"]
    certain = [Column(term, times_certainty=True) for term in BY_CERTAINTY]
    adapter = [Column(term, adapter=True) for term in ADAPTER_TERMS]
    if not with_sounds:
        return plain + certain + adapter
    phones = [Column(term, phones=True) for term in HEAD_TERMS]
    return plain + certain + adapter + phones + [Column(term, looked_up=True) for term in LOOKUP_TERMS]


def design_matrix(arcs: ArcSet, columns: Sequence[Column]) -> NDArray[np.float64]:
    """[n, columns] of a set's n arcs."""
    certainty = np.maximum(LEAST_CERTAINTY, arcs.certainty)[arcs.utterance]
    position = {term: k for k, term in enumerate(TERMS)}
    matrix = np.zeros((len(arcs.right), len(columns)))
    for k, column in enumerate(columns):
        if (arcs.adapter or not column.adapter) and (arcs.phones or not column.phones):
            matrix[:, k] = arcs.terms[:, position[column.term]]
        if column.looked_up:
            matrix[:, k] *= arcs.looked_up
        if column.times_certainty:
            matrix[:, k] *= certainty
    return matrix


def arc_weights(arcs: ArcSet) -> NDArray[np.float64]:
    """[n] how much each arc of a set counts in the fit.

    Raises:
        ValueError: the set has no right arc.
    """
    if not arcs.right.any():
        raise ValueError(f"{arcs.name}: none of {len(arcs.right)} arcs is right; is what is said in the list?")
    weights = arcs.shares[arcs.utterance]
    weights *= 100 * arcs.weight / weights[arcs.right].sum()
    return weights


def logistic_regression(
    matrix: NDArray[np.float64],
    right: NDArray[np.bool_],
    weights: NDArray[np.float64],
    ridge: float = RIDGE,
    offset: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Maximum likelihood of a logistic model, by Newton's method (iteratively reweighted least squares).

    Args:
        matrix: [n, columns].
        right: [n] the outcomes.
        weights: [n] how much each row counts.
        ridge: times half the sum of the squared weights of the standardised columns: what they cost.
        offset: [n] log-odds that are known and added.

    Returns:
        [1 + columns] the constant, and the weights of the columns as they are; 0 for a column that does not vary.
    """
    mean, deviation = matrix.mean(axis=0), matrix.std(axis=0)
    varies = deviation > 1e-9 * np.maximum(1, np.abs(mean))
    scale = np.where(varies, deviation, 1)
    standard = np.column_stack([np.ones(len(matrix)), np.where(varies, (matrix - mean) / scale, 0)])
    penalty = np.full(standard.shape[1], ridge)
    penalty[0] = 0

    def loss(beta: NDArray[np.float64]) -> float:
        odds = offset + standard @ beta
        return float(weights @ (np.logaddexp(0, odds) - right * odds) + penalty @ beta**2 / 2)

    beta = np.zeros(standard.shape[1])
    current = loss(beta)
    for _ in range(STEPS):
        probability = probabilities(offset + standard @ beta)
        gradient = standard.T @ (weights * (probability - right)) + penalty * beta
        spread = weights * probability * (1 - probability) + 1e-9
        curvature = (standard * spread[:, None]).T @ standard + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        while (following := loss(beta - step)) > current and np.abs(step).max() > 1e-6:
            step /= 2
        beta, current = beta - step, following
        if np.abs(step).max() < 1e-5:
            break
    slopes = beta[1:] / scale
    return np.concatenate([[beta[0] - slopes @ np.where(varies, mean, 0)], slopes])


def fit_weights(sets: Sequence[ArcSet], with_frequencies: bool, with_sounds: bool, left_out: int | None = None) -> WeightSet:
    """Fits one set of weights.

    Args:
        sets: arcs.
        with_frequencies: whether for use with word frequencies.
        with_sounds: whether for use with pronunciations.
        left_out: utterances whose number leaves this remainder modulo `FOLDS` are not used; None: all are.

    Returns:
        Its parts, and that of the risk. Without a set with an adapter, `adapter` is that of the package's own file; likewise
        `phones`.

    Raises:
        ValueError: a set has no right arc, or no arc may lose words.
    """
    columns = columns_of(with_frequencies, with_sounds)
    known = np.array([KNOWN.get(term, 0.0) for term in TERMS])
    used = [arcs.utterance % FOLDS != left_out for arcs in sets]
    matrix = np.concatenate([design_matrix(arcs, columns)[rows] for arcs, rows in zip(sets, used, strict=True)])
    right = np.concatenate([arcs.right[rows] for arcs, rows in zip(sets, used, strict=True)])
    offset = np.concatenate([arcs.terms[rows] @ known for arcs, rows in zip(sets, used, strict=True)])
    counts = np.concatenate([arc_weights(arcs)[rows] for arcs, rows in zip(sets, used, strict=True)])
    beta = logistic_regression(matrix, right, counts, offset=offset)
    weights = weights_of(beta, columns)
    likely = probabilities(offset + beta[0] + matrix @ beta[1:])
    weights["risk"] = fit_risk(sets, used, counts * likely, with_frequencies)
    own = read_weights(DEFAULT_FILE, with_frequencies, with_sounds)
    if not any(arcs.adapter for arcs in sets):
        weights["adapter"] = {term: _rounded(own.adapter[k]) for k, term in enumerate(TERMS) if term in ADAPTER_TERMS}
    if with_sounds and not any(arcs.phones for arcs in sets):
        weights["phones"] = {term: _rounded(own.phones[k]) for k, term in enumerate(TERMS) if term in HEAD_TERMS}
    weights["language_model"] = {
        term: _rounded(own.language_model[k]) for k, term in enumerate(TERMS) if term in LANGUAGE_MODEL_TERMS
    }
    return weights


def fit_risk(
    sets: Sequence[ArcSet], used: Sequence[NDArray[np.bool_]], counts: NDArray[np.float64], with_frequencies: bool
) -> Part:
    """Fits the risk that right words are lost by arcs that are wrong.

    Args:
        sets: arcs.
        used: for each set, [n] which of its arcs count.
        counts: [used arcs of all sets] how much each counts, if it may lose words.
        with_frequencies: whether for use with word frequencies.

    Raises:
        ValueError: no arc may lose words.
    """
    asked = np.concatenate([arcs.may_lose[rows] for arcs, rows in zip(sets, used, strict=True)])
    stakes = np.concatenate([arcs.stakes[rows] for arcs, rows in zip(sets, used, strict=True)])[asked]
    loses = np.concatenate([arcs.loses[rows] for arcs, rows in zip(sets, used, strict=True)])[asked]
    if not len(loses):
        raise ValueError("no arc is wrong and plausible, so that nothing tells when right words are lost; give more data")
    names = [name for name in STAKES if with_frequencies or name not in FREQUENCY_TERMS]
    matrix = stakes[:, [STAKES.index(name) for name in names[1:]]]
    beta = logistic_regression(matrix.astype(np.float64), loses, counts[asked])
    return {name: _rounded(float(weight)) for name, weight in zip(names, beta, strict=True)}


def weights_of(beta: NDArray[np.float64], columns: Sequence[Column]) -> WeightSet:
    """The parts of the weights that follow from those of the design matrix: [1 + columns], the constant first."""
    weight = dict(zip(columns, beta[1:].tolist(), strict=True)) | {Column("constant"): float(beta[0])}
    terms = [term for term in TERMS if Column(term) in weight]

    def at(certainty: float) -> Part:
        slopes = {term: weight.get(Column(term, times_certainty=True), 0.0) for term in terms}
        return {term: _rounded(weight[Column(term)] + certainty * slopes[term]) for term in terms} | KNOWN

    adapter = {column.term: _rounded(weight[column]) for column in columns if column.adapter}
    phones = {column.term: _rounded(weight[column]) for column in columns if column.phones}
    looked_up = {column.term: _rounded(weight[column]) for column in columns if column.looked_up}
    return {"unsure": at(UNSURE), "sure": at(SURE), "adapter": adapter, "phones": phones, "looked_up": looked_up}


def fit_language_model(sets: Sequence[ArcSet], base: EvidenceWeights, left_out: int | None = None) -> Part:
    """Fits what a language model adds to other weights, which stay as they are.

    Args:
        sets: arcs in texts that a language model chose, all with pronunciations or all without.
        base: the other weights.
        left_out: as in `fit_weights`.

    Raises:
        ValueError: a set has no right arc.
    """
    positions = [k for k, term in enumerate(TERMS) if term in LANGUAGE_MODEL_TERMS]
    without = replace(base, language_model=np.zeros(len(TERMS), np.float32))
    used = [arcs.utterance % FOLDS != left_out for arcs in sets]
    beta = logistic_regression(
        np.concatenate([arcs.terms[rows][:, positions[1:]] for arcs, rows in zip(sets, used, strict=True)]),
        np.concatenate([arcs.right[rows] for arcs, rows in zip(sets, used, strict=True)]),
        np.concatenate([arc_weights(arcs)[rows] for arcs, rows in zip(sets, used, strict=True)]),
        offset=np.concatenate([arcs.log_odds([without])[rows] for arcs, rows in zip(sets, used, strict=True)]),
    )
    return {list(TERMS)[position]: _rounded(float(weight)) for position, weight in zip(positions, beta, strict=True)}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def fit_files(
    sets: Sequence[ArcSet],
    path: Path,
    fold_folder: Path,
    with_frequencies: bool = True,
    progress: Callable[[], Any] = lambda: None,
) -> list[Path]:
    """Fits all sets of weights that the arcs allow, and those of the cross-validation.

    Args:
        sets: arcs, with and without pronunciations. If a language model chose the texts, only what it adds is fitted, and
            all other weights are the package's.
        path: to write the weights of all utterances to.
        fold_folder: to write `FOLDS` files to, of weights fitted without the utterances of each fold.
        with_frequencies: False: the arcs have no word frequencies, so that there are no weights for use with them.
        progress: called after each of ``1 + FOLDS`` files.

    Returns:
        The files of the folds.

    Raises:
        ValueError: a set has no right arc.
        OSError: a file cannot be written.
    """
    folds = [fold_folder / f"without_{fold}.json" for fold in range(FOLDS)]
    with_model = all(arcs.language_model for arcs in sets)
    by_sounds = {sounds: [arcs for arcs in sets if arcs.sounds is sounds] for sounds in (True, False)}
    wanted = [each for each in WEIGHT_SETS if (with_frequencies or not each[0]) and by_sounds[each[1]]]
    for left_out, file in enumerate([*folds, path]):
        fold = left_out if left_out < FOLDS else None
        content = json.loads(DEFAULT_FILE.read_text(encoding="utf-8")) if with_model else {}
        for frequencies, sounds in wanted:
            name, own_sets = WEIGHT_SETS[frequencies, sounds], by_sounds[sounds]
            if with_model:
                base = read_weights(DEFAULT_FILE, frequencies, sounds)
                content[name]["language_model"] = fit_language_model(own_sets, base, fold)
            else:
                content[name] = fit_weights(own_sets, frequencies, sounds, fold)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        progress()
    return folds
