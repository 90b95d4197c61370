"""Compares decoders on the same log-probs: each is tuned on development data, then measured once on test data.

Nothing here imports NeMo. A decoder is a `System`; those of NeMo, pyctcdecode and this package are in
`nemo_bias.evaluation.peers`.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_bias.evaluation.metrics import BiasingScore, score

LogProbs = NDArray[np.float32]  # [T, V] of one utterance, natural logarithms
Weights = Mapping[str, float]  # the options of a decoder that are tuned, by the names that it gives them
Decoder = Callable[[Sequence[LogProbs]], list[str]]


class System(ABC):
    """A way to decode log-probs with a list of phrases.

    Attributes:
        name: what tables call it.
        weights: what is tried on development data; a single entry needs no tuning.
        most_phrases: it is not run on longer lists; None: it is always run.
        tuning_utterances: it is tuned on so many utterances, spread evenly over the development data; None: on all.
    """

    name: str
    weights: Sequence[Weights]
    most_phrases: int | None = None
    tuning_utterances: int | None = None

    @abstractmethod
    def prepare(self, phrases: Sequence[str], weights: Weights) -> Decoder:
        """Compiles a list.

        Args:
            phrases: distinct phrases, in the characters of the model.
            weights: one entry of `weights`.

        Returns:
            A function from the log-probs of any number of utterances to their texts, in the same order.
        """


@dataclass(frozen=True)
class Utterances:
    """Data to decode.

    Attributes:
        items: lines of a manifest with `text`, `duration` (seconds) and, for lists, `entities`.
        log_probs: of each item.
    """

    items: Sequence[Mapping[str, Any]]
    log_probs: Sequence[LogProbs]

    def __post_init__(self) -> None:
        if len(self.items) != len(self.log_probs):
            raise ValueError(f"{len(self.items)} manifest items, but log-probs of {len(self.log_probs)} utterances")

    @property
    def duration_seconds(self) -> float:
        """Duration of all audio."""
        return float(sum(item["duration"] for item in self.items))

    def spread(self, count: int | None) -> Utterances:
        """At most `count` of the utterances, evenly spread; all if it is None."""
        if count is None or count >= len(self.items):
            return self
        chosen = [k * len(self.items) // count for k in range(count)]
        return Utterances([self.items[k] for k in chosen], [self.log_probs[k] for k in chosen])

    def score(self, hypotheses: Sequence[str], phrases: Sequence[str]) -> BiasingScore:
        """Scores texts of the utterances."""
        durations = [item["duration"] for item in self.items]
        return score([item["text"] for item in self.items], hypotheses, phrases, durations)


@dataclass(frozen=True)
class ComparisonRow:
    """What one system did with one list.

    Attributes:
        source: the data's name.
        system: the system's name.
        distractors: phrases of the list that nobody says.
        phrases: the whole list's size.
        weights: the tuned weights.
        at_edge: whether one of them is the lowest or highest value tried, so that a better one may lie outside.
        f1: percent, as are precision, recall, wer, u_wer and b_wer; these and what follows are None if it was not run.
        false_alarms_per_hour: per hour of audio.
        compile_seconds: CPU time of compiling the list, the decoder's own preparation included.
        decode_seconds: CPU time of decoding all test utterances.
        real_time_factor: `decode_seconds` by the duration of the audio.
    """

    source: str
    system: str
    distractors: int
    phrases: int
    weights: Weights | None = None
    at_edge: bool = False
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    false_alarms_per_hour: float | None = None
    wer: float | None = None
    u_wer: float | None = None
    b_wer: float | None = None
    compile_seconds: float | None = None
    decode_seconds: float | None = None
    real_time_factor: float | None = None


def experiment_list(items: Iterable[Mapping[str, Any]], distractors: Iterable[str], count: int) -> list[str]:
    """The list of an experiment: every distinct entity of the data, then distractors that nobody says.

    Args:
        items: lines of a manifest with `text` and `entities`.
        distractors: phrases in a fixed order.
        count: distractors wanted: the first ones that share no word with any reference and are not in the list.

    Returns:
        Distinct phrases.

    Raises:
        ValueError: there are not enough distractors.
    """
    items = list(items)
    phrases = dict.fromkeys(entity for item in items for entity in item["entities"])
    size = len(phrases) + count
    said = {word for item in items for word in item["text"].split()}
    for distractor in distractors:
        if len(phrases) == size:
            break
        words = distractor.split()
        if words and said.isdisjoint(words):
            phrases[distractor] = None
    if len(phrases) < size:
        raise ValueError(
            f"{count} distractors wanted, but only {len(phrases) - size + count} share no word with a reference"
        )
    return list(phrases)


def tune(
    system: System, data: Utterances, phrases: Sequence[str], progress: Callable[[str], None] = lambda text: None
) -> Weights:
    """The weights with the best entity F1; of equals those with the lowest WER, then those that come first.

    Args:
        system: what to tune.
        data: development data.
        phrases: its list.
        progress: told what runs.
    """
    if len(system.weights) == 1:
        return system.weights[0]
    data = data.spread(system.tuning_utterances)
    ranks = []
    for weights in system.weights:
        progress(f"{system.name}: {_weights_text(weights)}")
        result = data.score(system.prepare(phrases, weights)(data.log_probs), phrases)
        ranks.append((result.f1 or 0.0, -(result.wer or 0.0)))
    return system.weights[ranks.index(max(ranks))]


def compare(
    systems: Sequence[System],
    source: str,
    dev: Utterances,
    test: Utterances,
    distractors: Sequence[str],
    count: int,
    progress: Callable[[str], None] = lambda text: None,
) -> list[ComparisonRow]:
    """Tunes each system on development data and measures it on test data.

    Args:
        systems: what to compare.
        source: the data's name.
        dev: development data.
        test: test data.
        distractors: phrases in a fixed order.
        count: distractors in each of the two lists.
        progress: told what runs.

    Returns:
        A row for each system; one that does not take so long a list has no results in it.
    """
    dev_phrases = experiment_list(dev.items, distractors, count)
    test_phrases = experiment_list(test.items, distractors, count)
    rows = []
    for system in systems:
        if system.most_phrases is not None and max(len(dev_phrases), len(test_phrases)) > system.most_phrases:
            rows.append(ComparisonRow(source, system.name, count, len(test_phrases)))
            continue
        weights = tune(system, dev, dev_phrases, progress)
        progress(f"{system.name}: test")
        rows.append(_measure(system, weights, source, test, test_phrases, count))
    return rows


def _measure(
    system: System, weights: Weights, source: str, test: Utterances, phrases: Sequence[str], count: int
) -> ComparisonRow:
    start = time.process_time()
    decode = system.prepare(phrases, weights)
    compiled = time.process_time()
    texts = decode(test.log_probs)
    decode_seconds = time.process_time() - compiled
    result = test.score(texts, phrases)
    return ComparisonRow(
        source=source,
        system=system.name,
        distractors=count,
        phrases=len(phrases),
        weights=dict(weights),
        at_edge=_at_edge(weights, system.weights),
        f1=result.f1,
        precision=result.precision,
        recall=result.recall,
        false_alarms_per_hour=result.false_alarms_per_hour,
        wer=result.wer,
        u_wer=result.u_wer,
        b_wer=result.b_wer,
        compile_seconds=compiled - start,
        decode_seconds=decode_seconds,
        real_time_factor=decode_seconds / test.duration_seconds if test.duration_seconds else None,
    )


def _at_edge(weights: Weights, tried: Sequence[Weights]) -> bool:
    for name, value in weights.items():
        values = [each[name] for each in tried]
        if min(values) < max(values) and value in (min(values), max(values)):
            return True
    return False


COLUMNS = {  # header: field, digits
    "F1 %": ("f1", 1),
    "precision %": ("precision", 1),
    "recall %": ("recall", 1),
    "false alarms / h": ("false_alarms_per_hour", 1),
    "WER %": ("wer", 2),
    "U-WER %": ("u_wer", 2),
    "B-WER %": ("b_wer", 2),
    "compile s": ("compile_seconds", 2),
    "decode s": ("decode_seconds", 2),
    "real-time factor": ("real_time_factor", 5),
}


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    header = ["source", "distractors", "phrases", "system", "weights", *COLUMNS]
    lines = [header, ["---", "---:", "---:", "---", "---"] + ["---:"] * len(COLUMNS)]
    for row in rows:
        cells = [row.source, str(row.distractors), str(row.phrases), row.system]
        if row.weights is None:
            cells += ["not run"] + ["-"] * len(COLUMNS)
        else:
            cells.append(_weights_text(row.weights) + (" \\*" if row.at_edge else ""))
            cells += [_number(getattr(row, field), digits) for field, digits in COLUMNS.values()]
        lines.append(cells)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    note = "\n\n\\* the lowest or highest value that was tried" if any(row.at_edge for row in rows) else ""
    return table + note


def comparison_json(rows: Sequence[ComparisonRow], **facts: Any) -> str:
    """Renders rows as JSON: an object with `rows` and whatever other facts are given."""
    return json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False) + "\n"


def _weights_text(weights: Weights) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in weights.items()) or "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
