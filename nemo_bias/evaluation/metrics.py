"""How well a recogniser hears the phrases of an entity list, and what that costs on all other words.

Every phrase of the list counts, distractors too. An *occurrence* is a position at which all words of a listed phrase
stand. Nested and overlapping phrases each count: with `york` and `new york` in the list, "in new york" holds two.

Reference and hypothesis words are aligned at minimum edit distance (kaldialign, all errors cost 1). Then:

- *true positive* (hit): a reference occurrence which the hypothesis holds whole and unbroken at the same place;
- *miss*: any other reference occurrence;
- *false alarm*: a hypothesis occurrence which is no hit.

Example, list `york`, `new york`, `cork`:

    reference    cork   and  new  york  we  saw  *
    hypothesis   quark  and  new  york  we  saw  york

`york` and `new york` are hits, `cork` is a miss and the second `york` a false alarm. Two words are wrong: `quark` for
`cork` counts to B-WER, as its reference word lies in an occurrence, and so does the inserted `york`, as it lies in a
hypothesis occurrence. B-WER is 2 errors / 3 words, U-WER 0 / 3.

*The same place.* Several alignments may have the same edit distance: "new york" against "new new york" can take the
first or the second "new". An occurrence counts as a hit when at least one of its words is aligned to the same word of
the same phrase in the hypothesis. The alignment can then be redrawn to match the phrase whole at no extra cost, as
stripping what two texts have in common at an end never raises their edit distance. So "new new york" is a hit whatever
the aligner chose, and "new big york" is not: the hypothesis does not hold the phrase.

*Harm.* Given a baseline, which is what was recognised without a list, the reference words outside all occurrences are
compared in both texts. A word is right where the alignment pairs it with an equal word.

- *harmed*: a word that is right in the baseline and wrong in the hypothesis;
- *helped*: a word that is wrong in the baseline and right in the hypothesis.

Both are also given per 1,000 reference words outside all occurrences. Inserted words are no reference words, so they
count to U-WER or B-WER only. With the list above:

    reference    we  saw  cork   and  new  york
    baseline     we  so   quark  and  new  york
    hypothesis   we  saw  cork   an   new  york

`and` is harmed and `saw` helped; `cork` is neither, as it is listed. Of the three words outside, that is 333.33 each.

Differences from NeMo's `compute_fscore` (parts/context_biasing/context_biasing_utils.py, NeMo 3.0):

- One-word phrases: NeMo counts a false positive only where the aligned reference word is not itself a one-word entry
  of the list. `york` recognised as `cork`, both listed, is a miss for NeMo; here it is a miss and a false alarm.
- Longer phrases, words inserted: NeMo looks only at the hypothesis words aligned to reference words. "new big york"
  for "new york" is a true positive for NeMo if `big` is aligned as an insertion; here it is a miss.
- Longer phrases, words deleted: likewise NeMo counts no false positive for "new york" recognised in place of
  "new old york" if `old` is aligned as a deletion; here it is a false alarm.
- Alignment ties are not resolved: "new new york" for "new york" is a true positive and a false positive for NeMo if
  the first "new" was aligned; here it is a true positive only.
- NeMo compares a phrase as spelled, so one with double spaces is never found; here words are compared. It returns
  fractions, and fails if it counted no occurrence at all; here rates without a denominator are None.

Differences from the rare-word script of Le et al. 2021 (facebookresearch/fbai-speech, is21_deep_bias/score.py):

- There each utterance has its own list of single biasing words; here one list of phrases serves all utterances.
- There any reference word of the utterance's list is a B word; here a word is one only inside a whole occurrence.
- There an inserted word counts to B-WER if it is in the utterance's list, here if it lies in a hypothesis occurrence.
  Substitutions and deletions go to the class of their reference word in both.
- There insertions and deletions cost 3 and substitutions 4, so its alignment can hold more errors than the edit
  distance; here the errors of B-WER and U-WER sum to the edit distance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nemo_bias.entities import EntityList
from nemo_bias.evaluation.manifest import read_baseline, read_manifest, read_predictions
from nemo_bias.evaluation.occurrences import PhraseIndex, Words, align, hits, right_words
from nemo_bias.evaluation.written_lists import written_list
from nemo_bias.languages import ENGLISH


@dataclass(frozen=True)
class BiasingScore:
    """Counts over a test set, and the rates that follow from them.

    Rates are in percent, and None where they have no denominator: with an empty list, for instance, there is no
    precision, recall or B-WER.

    Attributes:
        words: reference words.
        errors: substitutions, deletions and insertions.
        b_words: reference words that lie in an occurrence of a listed phrase.
        b_errors: errors that count to B-WER.
        true_positives: reference occurrences recognised.
        misses: reference occurrences not recognised.
        false_alarms: hypothesis occurrences that are no true positives.
        oov_occurrences: reference occurrences that hold a word unknown to training; None if known words were not given.
        oov_true_positives: those of them recognised; None likewise.
        harmed: reference words outside all occurrences that are right in the baseline only; None without a baseline.
        helped: reference words outside all occurrences that are wrong in the baseline only; None likewise.
        duration_seconds: duration of the audio.
    """

    words: int
    errors: int
    b_words: int
    b_errors: int
    true_positives: int
    misses: int
    false_alarms: int
    oov_occurrences: int | None
    oov_true_positives: int | None
    harmed: int | None
    helped: int | None
    duration_seconds: float

    @property
    def occurrences(self) -> int:
        """Reference occurrences of listed phrases."""
        return self.true_positives + self.misses

    @property
    def u_words(self) -> int:
        """Reference words outside all occurrences."""
        return self.words - self.b_words

    @property
    def u_errors(self) -> int:
        """Errors that count to U-WER."""
        return self.errors - self.b_errors

    @property
    def wer(self) -> float | None:
        """Word error rate, percent."""
        return _percent(self.errors, self.words)

    @property
    def b_wer(self) -> float | None:
        """Word error rate on listed phrases, percent."""
        return _percent(self.b_errors, self.b_words)

    @property
    def u_wer(self) -> float | None:
        """Word error rate on all other words, percent."""
        return _percent(self.u_errors, self.u_words)

    @property
    def precision(self) -> float | None:
        """True positives per hypothesis occurrence, percent."""
        return _percent(self.true_positives, self.true_positives + self.false_alarms)

    @property
    def recall(self) -> float | None:
        """True positives per reference occurrence, percent."""
        return _percent(self.true_positives, self.occurrences)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, percent; 0 if only one of them exists."""
        return _percent(2 * self.true_positives, 2 * self.true_positives + self.misses + self.false_alarms)

    @property
    def false_alarms_per_hour(self) -> float | None:
        """False alarms per hour of audio."""
        return self.false_alarms * 3600 / self.duration_seconds if self.duration_seconds else None

    @property
    def oov_recall(self) -> float | None:
        """Recall on occurrences that hold at least one word unknown to training, percent."""
        if self.oov_true_positives is None or self.oov_occurrences is None:
            return None
        return _percent(self.oov_true_positives, self.oov_occurrences)

    @property
    def harmed_per_thousand(self) -> float | None:
        """Harmed words per 1,000 reference words outside all occurrences."""
        return self._per_thousand(self.harmed)

    @property
    def helped_per_thousand(self) -> float | None:
        """Helped words per 1,000 reference words outside all occurrences."""
        return self._per_thousand(self.helped)

    def _per_thousand(self, words: int | None) -> float | None:
        return 1000 * words / self.u_words if words is not None and self.u_words else None

    def as_dict(self) -> dict[str, int | float | None]:
        """Rates and counts for JSON; rates and the duration rounded to two decimals."""
        rates: tuple[str, ...] = ("wer", "b_wer", "u_wer", "precision", "recall", "f1", "false_alarms_per_hour")
        rates += ("oov_recall", "harmed_per_thousand", "helped_per_thousand")
        counts = ("occurrences", *(field.name for field in fields(self)), "u_words", "u_errors")
        values: dict[str, int | float | None] = {name: getattr(self, name) for name in (*rates, *counts)}
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in values.items()}


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    phrases: Iterable[str],
    durations_seconds: Sequence[float],
    known_words: Collection[str] | None = None,
    baseline: Sequence[str] | None = None,
) -> BiasingScore:
    """Score hypotheses against references for a list of phrases.

    Text is split at white space and compared as given: bring references, hypotheses and phrases to the same case and
    spelling first. The module's docstring defines what is counted, and how it differs from NeMo's and Le et al.'s.

    Args:
        references: what was said, one text per utterance.
        hypotheses: what was recognised, in the same order; "" for nothing.
        phrases: the whole entity list, distractors included; may be empty.
        durations_seconds: duration of each utterance.
        known_words: words of the training text; without them there is no OOV recall.
        baseline: what was recognised without a list, in the same order; without it there is no harm and no help.

    Returns:
        The counts over all utterances, with the rates as properties.

    Raises:
        ValueError: the lengths differ, a duration is negative or not finite, or a phrase has no words.
    """
    _check_utterances(references, hypotheses, durations_seconds, baseline)
    index = PhraseIndex(phrases)
    known = None if known_words is None else frozenset(known_words)
    totals = _Counts()
    befores = [None] * len(references) if baseline is None else [tuple(text.split()) for text in baseline]
    for reference, hypothesis, before in zip(references, hypotheses, befores, strict=True):
        _count_utterance(tuple(reference.split()), tuple(hypothesis.split()), before, index, known, totals)
    return BiasingScore(
        words=totals.words,
        errors=totals.errors,
        b_words=totals.b_words,
        b_errors=totals.b_errors,
        true_positives=totals.true_positives,
        misses=totals.occurrences - totals.true_positives,
        false_alarms=totals.false_alarms,
        oov_occurrences=None if known is None else totals.oov_occurrences,
        oov_true_positives=None if known is None else totals.oov_true_positives,
        harmed=None if baseline is None else totals.harmed,
        helped=None if baseline is None else totals.helped,
        duration_seconds=math.fsum(durations_seconds),
    )


def score_manifest(
    path: str | Path,
    entities: EntityList | Iterable[Any],
    known_words: Collection[str] | None = None,
    baseline: str | Path | None = None,
    language: str = ENGLISH,
) -> BiasingScore:
    """Score a prediction manifest.

    The list is written as decoding writes it in the characters of the texts (`nemo_bias.evaluation.written_lists`), and
    what cannot be written in them does not count. If no reference has an upper-case letter, known words are lower-cased.
    Texts are not changed.

    Args:
        path: NeMo manifest with `duration` (seconds), `text` and `pred_text` on every line.
        entities: the list, or what `nemo_bias.entities.parse_entities` takes.
        known_words: as for `score`.
        baseline: prediction manifest of the same utterances in the same order, recognised without a list.
        language: of the list, by its code.

    Returns:
        The score of all its utterances.

    Raises:
        EntityListError: an entity is broken.
        ManifestError: a manifest is broken or has no utterances, or the two are not of the same utterances.
    """
    items = read_predictions(path)
    references = [item["text"] for item in items]
    hypotheses = [item["pred_text"] for item in items]
    if known_words is not None and all(reference == reference.lower() for reference in references):
        known_words = {word.lower() for word in known_words}
    return score(
        references,
        hypotheses,
        written_list(entities, (*references, *hypotheses), language).phrases,
        [item["duration"] for item in items],
        known_words,
        None if baseline is None else read_baseline(baseline, path, items),
    )


def manifest_words(path: str | Path) -> set[str]:
    """The distinct words of a manifest's `text` fields, as the `known_words` of `score`.

    Args:
        path: NeMo manifest, usually the training one.

    Returns:
        The words, as spelled there.

    Raises:
        ManifestError: the manifest cannot be read, or a line is broken or has no `text`.
    """
    return {word for item in read_manifest(path, ("text",)) for word in item["text"].split()}


def markdown_table(rows: Mapping[str, BiasingScore]) -> str:
    """Render scores as a Markdown table, one row each; "-" stands for a rate that does not exist.

    Args:
        rows: scores by name, such as the decoder or the prediction file.

    Returns:
        The table, without a newline at its end. OOV recall has a column if any score has known words; harmed and helped
        words have theirs if any score has a baseline.
    """
    with_oov = any(row.oov_occurrences is not None for row in rows.values())
    with_harm = any(row.harmed is not None for row in rows.values())
    header = ["", "WER %", "B-WER %", "U-WER %", "precision %", "recall %", "F1 %", "occurrences", "false alarms / h"]
    header += ["OOV recall %", "OOV occurrences"] if with_oov else []
    header += ["harmed / 1,000", "helped / 1,000"] if with_harm else []
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, row in rows.items():
        cells: list[Any] = [row.wer, row.b_wer, row.u_wer, row.precision, row.recall, row.f1, row.occurrences]
        cells.append(row.false_alarms_per_hour)
        cells += [row.oov_recall, row.oov_occurrences] if with_oov else []
        cells += [row.harmed_per_thousand, row.helped_per_thousand] if with_harm else []
        lines.append([" ".join(name.split()).replace("|", "\\|"), *map(_cell, cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass
class _Counts:
    """Sums over the utterances seen so far; the names are those of `BiasingScore`."""

    words: int = 0
    errors: int = 0
    b_words: int = 0
    b_errors: int = 0
    occurrences: int = 0
    true_positives: int = 0
    false_alarms: int = 0
    oov_occurrences: int = 0
    oov_true_positives: int = 0
    harmed: int = 0
    helped: int = 0


def _check_utterances(
    references: Sequence[str],
    hypotheses: Sequence[str],
    durations_seconds: Sequence[float],
    baseline: Sequence[str] | None,
) -> None:
    if not len(references) == len(hypotheses) == len(durations_seconds):
        raise ValueError(
            f"{len(references)} references, {len(hypotheses)} hypotheses and {len(durations_seconds)} durations; "
            "pass one of each per utterance"
        )
    if baseline is not None and len(baseline) != len(references):
        raise ValueError(f"{len(references)} references, but a baseline of {len(baseline)}; pass one of each per utterance")
    for number, duration in enumerate(durations_seconds):
        if not (math.isfinite(duration) and duration >= 0):
            raise ValueError(f"duration {number} is {duration}; pass seconds, 0 or more")


def _count_utterance(
    reference: Words,
    hypothesis: Words,
    before: Words | None,
    index: PhraseIndex,
    known: frozenset[str] | None,
    totals: _Counts,
) -> None:
    """Add the counts of one utterance to the totals; `before` is what the baseline recognised."""
    pairs = align(reference, hypothesis)
    said = index.occurrences(reference)
    recognised = index.occurrences(hypothesis)
    found = hits(said, recognised, pairs, reference, hypothesis)
    totals.occurrences += len(said)
    totals.true_positives += len(found)
    totals.false_alarms += len(recognised) - len(found)
    if known is not None:
        oov = [occurrence for occurrence in said if not known.issuperset(occurrence.words)]
        totals.oov_occurrences += len(oov)
        totals.oov_true_positives += sum(occurrence in found for occurrence in oov)

    said_positions = {position for occurrence in said for position in occurrence.positions}
    recognised_positions = {position for occurrence in recognised for position in occurrence.positions}
    totals.words += len(reference)
    totals.b_words += len(said_positions)
    for at_reference, at_hypothesis in pairs:
        if at_reference is None:
            totals.errors += 1
            totals.b_errors += at_hypothesis in recognised_positions
        elif at_hypothesis is None or reference[at_reference] != hypothesis[at_hypothesis]:
            totals.errors += 1
            totals.b_errors += at_reference in said_positions
    if before is not None:
        right = right_words(reference, hypothesis, pairs).keys() - said_positions
        right_before = right_words(reference, before, align(reference, before)).keys() - said_positions
        totals.harmed += len(right_before - right)
        totals.helped += len(right - right_before)


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
