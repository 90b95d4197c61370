"""Which entities were found, missed and invented in each utterance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_bias.entities import EntityList
from nemo_bias.evaluation.occurrences import AlignedPair, Occurrence, PhraseIndex, Words, align, hits
from nemo_bias.evaluation.written_lists import written_list


@dataclass(frozen=True)
class UtteranceDetails:
    """What became of the listed phrases in an utterance; the terms are those of `nemo_bias.evaluation.metrics`.

    Attributes:
        found: the phrases that were said and recognised.
        missed: those that were said and not recognised, each with the words that were recognised instead.
        invented: those that were recognised and not said, each with the words that were said instead.
    """

    found: tuple[str, ...]
    missed: tuple[tuple[str, str], ...]
    invented: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.found or self.missed or self.invented)

    def __str__(self) -> str:
        parts = [f"found {', '.join(self.found)}"] if self.found else []
        parts += [f"missed {phrase} (heard: {words or 'nothing'})" for phrase, words in self.missed]
        parts += [f"invented {phrase} (said: {words or 'nothing'})" for phrase, words in self.invented]
        return "; ".join(parts)


def utterance_details(reference: str, hypothesis: str, index: PhraseIndex) -> UtteranceDetails:
    """What became of the listed phrases in an utterance.

    Args:
        reference: what was said.
        hypothesis: what was recognised.
        index: of the list.
    """
    said_words, heard_words = tuple(reference.split()), tuple(hypothesis.split())
    pairs = align(said_words, heard_words)
    said, heard = index.occurrences(said_words), index.occurrences(heard_words)
    found = hits(said, heard, pairs, said_words, heard_words)
    partners = set(found.values())
    turned = [(h, r) for r, h in pairs]
    return UtteranceDetails(
        tuple(" ".join(each.words) for each in said if each in found),
        tuple((" ".join(each.words), _opposite(each, pairs, heard_words)) for each in said if each not in found),
        tuple((" ".join(each.words), _opposite(each, turned, said_words)) for each in heard if each not in partners),
    )


def _opposite(occurrence: Occurrence, pairs: Sequence[AlignedPair], other: Words) -> str:
    """The words of the other text that are aligned to an occurrence, and those between them."""
    at = [k for k, (own, _) in enumerate(pairs) if own in occurrence.positions]
    return " ".join(other[o] for _, o in pairs[at[0] : at[-1] + 1] if o is not None)


def missed_entities(items: Sequence[Mapping[str, Any]], entities: EntityList, language: str) -> list[tuple[str, ...]]:
    """The entities that were said and not recognised in each utterance, in the characters of the texts.

    Args:
        items: lines of a prediction manifest.
        entities: the list.
        language: of the list, by its code.
    """
    index = PhraseIndex(
        written_list(entities, (text for item in items for text in (item["text"], item["pred_text"])), language).phrases
    )
    details = (utterance_details(item["text"], item["pred_text"], index) for item in items)
    return [tuple(dict.fromkeys(phrase for phrase, _ in each.missed)) for each in details]


def details_text(items: Iterable[Mapping[str, Any]], phrases: Iterable[str]) -> str:
    """A line for each utterance in which a listed phrase was said or recognised.

    Args:
        items: lines of a prediction manifest; what `explanations` says of a missed phrase follows in lines of its own.
        phrases: the list, in the characters of the texts.
    """
    index = PhraseIndex(phrases)
    lines = []
    for number, item in enumerate(items, 1):
        if details := utterance_details(item["text"], item["pred_text"], index):
            lines.append(f"{item.get('audio_filepath', f'utterance {number}')}: {details}")
            told = item.get("explanations", {})
            lines += [f"  {told[phrase]}" for phrase in dict.fromkeys(p for p, _ in details.missed) if phrase in told]
    return "\n".join(lines)
