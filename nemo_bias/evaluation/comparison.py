"""Compares decoders on the same log-probs: each is tuned on development data, then measured once on test data.

Nothing here imports NeMo. A decoder is a `System`; those of NeMo, pyctcdecode and this package are in
`nemo_bias.evaluation.peers`.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
        package: what it needs beside NeMo; None: nothing.
        tuning_utterances: it is tuned on so many utterances, spread evenly over the development data; None: on all.
        changes_words: whether it writes other words than greedy decoding even without a list, as with a language model; what
            a list harms and helps is then counted against what it writes with an empty one.
    """

    name: str
    weights: Sequence[Weights]
    most_phrases: int | None = None
    package: str | None = None
    tuning_utterances: int | None = None
    changes_words: bool = False

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
        greedy_texts: what greedy decoding of them writes, the baseline of the words that a list harms or helps.
    """

    items: Sequence[Mapping[str, Any]]
    log_probs: Sequence[LogProbs]
    greedy_texts: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.items) == len(self.log_probs) == len(self.greedy_texts):
            raise ValueError(
                f"{len(self.items)} manifest items, but log-probs of {len(self.log_probs)} utterances "
                f"and {len(self.greedy_texts)} greedy texts"
            )

    @property
    def duration_seconds(self) -> float:
        """Duration of all audio."""
        return float(sum(item["duration"] for item in self.items))

    def spread(self, count: int | None) -> Utterances:
        """At most `count` of the utterances, evenly spread; all if it is None."""
        if count is None or count >= len(self.items):
            return self
        chosen = [k * len(self.items) // count for k in range(count)]
        log_probs = [self.log_probs[k] for k in chosen]
        return Utterances([self.items[k] for k in chosen], log_probs, [self.greedy_texts[k] for k in chosen])

    def score(self, hypotheses: Sequence[str], phrases: Sequence[str]) -> BiasingScore:
        """Scores texts of the utterances."""
        durations = [item["duration"] for item in self.items]
        references = [item["text"] for item in self.items]
        return score(references, hypotheses, phrases, durations, baseline=self.greedy_texts)


@dataclass(frozen=True)
class ExperimentList:
    """The list of an experiment.

    Attributes:
        name: what tables call its distractors, as ``1,000`` or ``1,000 near``.
        entities: every distinct entity of the data.
        distractors: phrases that are none of them.
    """

    name: str
    entities: tuple[str, ...]
    distractors: tuple[str, ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        """The whole list, entities first."""
        return self.entities + self.distractors


@dataclass(frozen=True)
class ComparisonRow:
    """What one system did with one list.

    Attributes:
        source: the data's name.
        system: the system's name.
        distractors: how many phrases of the list are no entities, and of which kind: the name of an `ExperimentList`.
        phrases: the whole list's size.
        weights: the tuned weights.
        at_edge: whether one of them is the lowest or highest value tried, so that a better one may lie outside.
        f1: percent, as are precision, recall, wer, u_wer and b_wer; these and what follows are None if it was not run.
        false_alarms_per_hour: per hour of audio.
        harmed: words per 1,000 outside listed phrases that greedy decoding (see `System.changes_words`) writes rightly and
            the system wrongly.
        helped: the reverse.
        distractors_wer: word error rate with a list of the distractors only, in percent; None if there are none.
        compile_seconds: CPU time of compiling the list, the decoder's own preparation included.
        decode_seconds: CPU time of decoding all test utterances.
        real_time_factor: `decode_seconds` by the duration of the audio.
    """

    source: str
    system: str
    distractors: str
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
    harmed: float | None = None
    helped: float | None = None
    distractors_wer: float | None = None
    compile_seconds: float | None = None
    decode_seconds: float | None = None
    real_time_factor: float | None = None


def unspoken(items: Iterable[Mapping[str, Any]], distractors: Iterable[str]) -> tuple[str, ...]:
    """The distinct distractors that share no word with a reference, and are no entity of the data.

    Args:
        items: lines of a manifest with `text` and `entities`.
        distractors: phrases.
    """
    items = list(items)
    entities = {entity for item in items for entity in item["entities"]}
    said = {word for item in items for word in item["text"].split()}
    fitting = (each for each in distractors if each.split() and each not in entities and said.isdisjoint(each.split()))
    return tuple(dict.fromkeys(fitting))


def experiment_list(
    items: Iterable[Mapping[str, Any]], distractors: Iterable[str], count: int | None = None
) -> ExperimentList:
    """The list of an experiment: every distinct entity of the data, then distractors.

    Args:
        items: lines of a manifest with `text` and `entities`.
        distractors: phrases in a fixed order; empty ones, repeated ones and entities of the data are left out.
        count: distractors wanted: the first ones that share no word with any reference. None: all of them, which
            were chosen to sound near what is said.

    Raises:
        ValueError: there are not enough distractors.
    """
    items = list(items)
    entities = dict.fromkeys(entity for item in items for entity in item["entities"])
    if count is None:
        chosen = tuple(dict.fromkeys(phrase for phrase in distractors if phrase.split() and phrase not in entities))
    else:
        chosen = unspoken(items, distractors)[:count]
    if count is not None and len(chosen) < count:
        raise ValueError(
            f"{count} distractors wanted, but only {len(chosen)} share no word with a reference; add some, or ask for fewer"
        )
    return ExperimentList(f"{len(chosen):,}{' near' if count is None else ''}", tuple(entities), chosen)


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
    dev_list: ExperimentList,
    test_list: ExperimentList,
    progress: Callable[[str], None] = lambda text: None,
) -> list[ComparisonRow]:
    """Tunes each system on development data and measures it on test data.

    Args:
        systems: what to compare.
        source: the data's name.
        dev: development data.
        test: test data.
        dev_list: the list to tune with.
        test_list: the list to measure with.
        progress: told what runs.

    Returns:
        A row for each system; one that does not take so long a list has no results in it.
    """
    rows = []
    for system in systems:
        if system.most_phrases is not None and max(len(dev_list.phrases), len(test_list.phrases)) > system.most_phrases:
            rows.append(ComparisonRow(source, system.name, test_list.name, len(test_list.phrases)))
            continue
        weights = tune(system, dev, dev_list.phrases, progress)
        progress(f"{system.name}: test")
        rows.append(_measure(system, weights, source, test, test_list))
    return rows


def _measure(system: System, weights: Weights, source: str, test: Utterances, listed: ExperimentList) -> ComparisonRow:
    start = time.process_time()
    decode = system.prepare(listed.phrases, weights)
    compiled = time.process_time()
    texts = decode(test.log_probs)
    decode_seconds = time.process_time() - compiled
    if system.changes_words:
        test = replace(test, greedy_texts=system.prepare([], weights)(test.log_probs))
    result = test.score(texts, listed.phrases)
    distractors_wer = None
    if listed.distractors:
        misled = system.prepare(listed.distractors, weights)(test.log_probs)
        distractors_wer = test.score(misled, listed.distractors).wer
    return ComparisonRow(
        source=source,
        system=system.name,
        distractors=listed.name,
        phrases=len(listed.phrases),
        weights=dict(weights),
        at_edge=_at_edge(weights, system.weights),
        f1=result.f1,
        precision=result.precision,
        recall=result.recall,
        false_alarms_per_hour=result.false_alarms_per_hour,
        wer=result.wer,
        u_wer=result.u_wer,
        b_wer=result.b_wer,
        harmed=result.harmed_per_thousand,
        helped=result.helped_per_thousand,
        distractors_wer=distractors_wer,
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
    "harmed / 1,000": ("harmed", 1),
    "helped / 1,000": ("helped", 1),
    "WER %, distractors only": ("distractors_wer", 2),
    "compile s": ("compile_seconds", 2),
    "decode s": ("decode_seconds", 2),
    "real-time factor": ("real_time_factor", 5),
}


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    header = ["source", "distractors", "phrases", "system", "weights", *COLUMNS]
    lines = [header, ["---", "---:", "---:", "---", "---"] + ["---:"] * len(COLUMNS)]
    for row in rows:
        cells = [row.source, row.distractors, str(row.phrases), row.system]
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
