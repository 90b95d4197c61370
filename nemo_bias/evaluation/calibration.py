"""Whether probabilities of entity arcs mean what they say: tables, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.probability import probabilities, read_weights
from nemo_bias.evaluation.arc_sets import ArcSet, Experiment, Regime, decoding_score
from nemo_bias.evaluation.metrics import BiasingScore

BINS = (0.2, 0.4, 0.6, 0.8, 1.0)  # edges; arcs below the first are nearly all that there are, and say little
RISK_BINS = (0.0, *BINS)
PANEL, DOTS_PER_INCH = 3.2, 120  # inches
COLOUR = "#1f5fa8"


@dataclass(frozen=True)
class Bin:
    """Arcs whose probability lies between two edges.

    Attributes:
        low: from this.
        high: up to this, itself left out, but for 1.
        count: of the arcs.
        mean: of their probabilities; 0 if there are none.
        share: of them that are right; likewise.
    """

    low: float
    high: float
    count: int
    mean: float
    share: float


@dataclass(frozen=True)
class SetResult:
    """What weights do on one set of arcs.

    Attributes:
        regime: its name.
        source: the utterances' source.
        listed: the list's name.
        right: [n] whether each arc is right.
        probability: [n] of each arc.
        risk: [wrong] of the arcs that may lose words and have a probability of at least 0.2.
        loses: [wrong] whether right words are lost by each of these.
        log_loss: in nats for each right arc.
        log_loss_without: the same without word frequencies; None if that was not measured.
        score: of decoding.
    """

    regime: str
    source: str
    listed: str
    right: NDArray[np.bool_]
    probability: NDArray[np.float64]
    risk: NDArray[np.float32]
    loses: NDArray[np.bool_]
    log_loss: float
    log_loss_without: float | None
    score: BiasingScore


def measure(
    regime: Regime,
    experiment: Experiment,
    arcs: ArcSet,
    options: DecodingOptions,
    evidence_files: Sequence[str | Path],
) -> SetResult:
    """Measures weights on one set.

    Args:
        regime: the set's.
        experiment: the set's.
        arcs: the set's, with word frequencies if there are any.
        options: how to decode.
        evidence_files: of the weights; utterance u is weighed and decoded with file u % len(evidence_files).

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds no weights.
    """
    frequencies, sounds = options.frequency_source is not None, options.pronunciation_source is not None
    weights = [read_weights(file, frequencies, sounds) for file in evidence_files]
    log_odds = arcs.log_odds(weights)
    without = None
    if frequencies:
        without = _log_loss(arcs, arcs.log_odds([read_weights(file, False, sounds) for file in evidence_files]))
    probability = probabilities(log_odds)
    wrong = arcs.may_lose & (probability >= BINS[0])
    return SetResult(
        regime=arcs.regime,
        source=arcs.source,
        listed=arcs.listed,
        right=arcs.right,
        probability=probability,
        risk=arcs.risks(weights)[wrong],
        loses=arcs.loses[wrong],
        log_loss=_log_loss(arcs, log_odds),
        log_loss_without=without,
        score=decoding_score(regime, experiment, options, evidence_files),
    )


def _log_loss(arcs: ArcSet, log_odds: NDArray[np.float64]) -> float:
    loss = np.logaddexp(0, log_odds) - arcs.right * log_odds
    return float(loss.sum() / max(1, int(arcs.right.sum())))


def bins_of(probability: NDArray[np.float64], right: NDArray[np.bool_], edges: Sequence[float] = BINS) -> list[Bin]:
    """Sorts arcs into bins.

    Args:
        probability: [n] of the arcs.
        right: [n] whether they are right.
        edges: of the bins, rising.
    """
    bins = []
    for low, high in pairwise(edges):
        inside = (probability >= low) & ((probability < high) | (high == edges[-1]))
        count = int(np.count_nonzero(inside))
        mean, share = (probability[inside].mean(), right[inside].mean()) if count else (0.0, 0.0)
        bins.append(Bin(low, high, count, float(mean), float(share)))
    return bins


def bins_by_regime(results: Sequence[SetResult]) -> dict[str, list[Bin]]:
    """The bins of each regime, all its sets together."""
    return {regime: bins_of(_joined(own, "probability"), _joined(own, "right")) for regime, own in _by_regime(results)}


def risk_bins_by_regime(results: Sequence[SetResult]) -> dict[str, list[Bin]]:
    """The same of risks, and whether right words are lost."""
    return {regime: bins_of(_joined(own, "risk"), _joined(own, "loses"), RISK_BINS) for regime, own in _by_regime(results)}


def _by_regime(results: Sequence[SetResult]) -> list[tuple[str, list[SetResult]]]:
    regimes = dict.fromkeys(result.regime for result in results)
    return [(regime, [result for result in results if result.regime == regime]) for regime in regimes]


def _joined(results: Sequence[SetResult], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(result, name) for result in results])


def calibration_markdown(regimes: Mapping[str, Sequence[Bin]], what: str = "probability") -> str:
    """Renders bins as a Markdown table, a row for each regime, without a newline at its end."""
    edges = [f"{each.low:g} to {each.high:g}" for each in next(iter(regimes.values()))]
    lines = [[what, *edges], ["---"] + ["---:"] * len(edges)]
    for regime, bins in regimes.items():
        cells = [f"{each.share:.2f} at {each.mean:.2f} ({each.count:,})" if each.count else "-" for each in bins]
        lines.append([regime.replace("|", "\\|"), *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def results_markdown(results: Sequence[SetResult]) -> str:
    """Renders what weights do on each set as a Markdown table, without a newline at its end."""
    without = any(result.log_loss_without is not None for result in results)
    header = ["regime", "source", "distractors", "arcs", "right", "log-loss", *(["without frequencies"] if without else [])]
    header += ["F1 %", "false alarms / h", "harmed / 1,000"]
    lines = [header, ["---", "---"] + ["---:"] * (len(header) - 2)]
    for result in results:
        cells = [result.regime.replace("|", "\\|"), result.source, result.listed, f"{len(result.right):,}"]
        cells += [str(np.count_nonzero(result.right)), f"{result.log_loss:.3f}"]
        cells += [_number(result.log_loss_without, 3)] if without else []
        score = result.score
        cells += [_number(score.f1, 1), _number(score.false_alarms_per_hour, 1), _number(score.harmed_per_thousand, 2)]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def calibration_report(results: Sequence[SetResult], title: str) -> str:
    """Both tables, with what they show, as a Markdown text."""
    return f"""# {title}

Share of the arcs that are right, at the mean of their probabilities, with their number.

{calibration_markdown(bins_by_regime(results))}

Of arcs that are wrong, with a probability of at least {BINS[0]:g}: the share by which right words are lost, at the mean of
their risks, with their number.

{calibration_markdown(risk_bins_by_regime(results), "risk")}

Each set: log-loss in nats for each right arc, and decoding at min_probability 0.5.

{results_markdown(results)}
"""


def plot_calibration(regimes: Mapping[str, Sequence[Bin]], path: str | Path) -> None:
    """Draws a reliability diagram for each regime, as PNG.

    Bars show the range in which the share would lie for two thirds of all draws of as many arcs (one standard error).

    Args:
        regimes: their bins.
        path: where to write it.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure(figsize=(PANEL * max(1, len(regimes)), PANEL + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(1, len(regimes)), sharey=True, squeeze=False)[0]
    for axis, (regime, bins) in zip(axes, regimes.items(), strict=False):
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        filled = [each for each in bins if each.count]
        errors = [math.sqrt(each.mean * (1 - each.mean) / each.count) for each in filled]
        means, shares = [each.mean for each in filled], [each.share for each in filled]
        axis.errorbar(means, shares, yerr=errors, color=COLOUR, marker="o", markersize=5, linewidth=1.5, capsize=3)
        for each in filled:
            axis.annotate(
                f"{each.count:,}",
                (each.mean, each.share),
                xytext=(6, -12),
                textcoords="offset points",
                fontsize=8,
                color="0.3",
            )
        axis.set(title=regime, xlabel="mean probability", xlim=(0, 1.05), ylim=(0, 1.05))
        axis.set_xticks(BINS)
        axis.set_yticks(BINS)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of arcs that are right")
    figure.savefig(path, format="png")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
