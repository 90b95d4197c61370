"""Do words keep their endings when their stems are listed?

Every word that greedy decoding writes rightly and that has an English ending is a trap: its stem is put into the list,
though nobody says it. The word is *lost* if it is wrong with the list. Nothing here imports NeMo.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nemo_bias.evaluation.comparison import System, Utterances, experiment_list
from nemo_bias.evaluation.occurrences import align, right_words

ENDINGS = ("'s", "'d", "'ll", "'re", "'ve", "n't", "s", "es", "ed", "er", "est", "ing", "ly")
LEAST_LETTERS = 3  # of a stem


@dataclass(frozen=True)
class LostWord:
    """A word that the list spoils.

    Attributes:
        utterance: position of its utterance in the data.
        word: what is said and what greedy decoding writes.
        entities: the listed stems of the word.
        text: what is written with the list.
    """

    utterance: int
    word: str
    entities: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class EndingsRow:
    """How the words with endings of one source fare.

    Attributes:
        source: the data's name.
        phrases: size of the list.
        words: those that greedy decoding writes rightly, and whose stem is listed.
        lost: of these, those that are wrong with the list.
    """

    source: str
    phrases: int
    words: int
    lost: tuple[LostWord, ...]

    @property
    def lost_percent(self) -> float | None:
        """None without words."""
        return 100 * len(self.lost) / self.words if self.words else None


def stems(word: str) -> tuple[str, ...]:
    """What is left of a word without each of the endings that it has, if that is long enough to be a stem."""
    cut = (word[: -len(ending)] for ending in ENDINGS if word.endswith(ending))
    return tuple(stem for stem in cut if sum(map(str.isalpha, stem)) >= LEAST_LETTERS and stem[-1] != "'")


def measure_endings(
    system: System, source: str, data: Utterances, distractors: Iterable[str], distractor_count: int
) -> EndingsRow:
    """Decodes with a list of stems and distractors, and counts the words that lose their ending or change otherwise.

    Args:
        system: the decoder; it runs with its first weights.
        source: the data's name.
        data: the utterances.
        distractors: phrases in a fixed order.
        distractor_count: how many of them to list: the first ones that share no word with any reference.

    Raises:
        ValueError: there are not enough distractors.
    """
    references = [tuple(item["text"].split()) for item in data.items]
    said = {word for reference in references for word in reference}
    kept = [_right(reference, text) for reference, text in zip(references, data.greedy_texts, strict=True)]
    listed_stems = {word: tuple(stem for stem in stems(word) if stem not in said) for word in said}
    traps = [
        [position for position in sorted(right) if listed_stems[reference[position]]]
        for reference, right in zip(references, kept, strict=True)
    ]
    words = [reference[position] for reference, positions in zip(references, traps, strict=True) for position in positions]
    entities = dict.fromkeys(stem for word in words for stem in listed_stems[word])
    chosen = experiment_list(
        ({"text": item["text"], "entities": entities} for item in data.items), distractors, distractor_count
    )
    texts = system.prepare(chosen.phrases, system.weights[0])(data.log_probs)
    lost = []
    for k, (reference, text) in enumerate(zip(references, texts, strict=True)):
        right = _right(reference, text)
        for position in traps[k]:
            if position not in right:
                lost.append(LostWord(k, reference[position], listed_stems[reference[position]], text))
    return EndingsRow(source, len(chosen.phrases), len(words), tuple(lost))


def _right(reference: Sequence[str], text: str) -> set[int]:
    """Positions of the words of a reference that a text has right."""
    hypothesis = tuple(text.split())
    return set(right_words(tuple(reference), hypothesis, align(tuple(reference), hypothesis)))


def endings_markdown(rows: Sequence[EndingsRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    lines = ["| source | phrases | words | lost | lost % |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        percent = "-" if row.lost_percent is None else f"{row.lost_percent:.2f}"
        lines.append(f"| {row.source} | {row.phrases} | {row.words} | {len(row.lost)} | {percent} |")
    return "\n".join(lines)
