"""Entity lists as a recogniser writes them, so that an evaluation counts what decoding looks for."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nemo_bias.entities import EntityList, parse_entities
from nemo_bias.languages import ENGLISH
from nemo_bias.normalization import NormalizedList, normalize_entities


def alphabet_of(texts: Iterable[str]) -> frozenset[str]:
    """The characters that a recogniser can write, told by its texts and their references.

    The texts may lack rare letters, so if there are letters of a case, all ASCII letters of that case and the apostrophe
    belong to it.
    """
    characters = {character for text in texts for character in text} - {" "}
    for letters in (string.ascii_lowercase, string.ascii_uppercase):
        if not characters.isdisjoint(letters):
            characters |= {*letters, "'"}
    return frozenset(characters)


def written_list(entities: EntityList | Iterable[Any], texts: Iterable[str], language: str = ENGLISH) -> NormalizedList:
    """A list as decoding writes it in the characters of some texts.

    Args:
        entities: the list, or what `parse_entities` takes.
        texts: references and what was recognised.
        language: of the list, by its code.

    Raises:
        EntityListError: an entity is broken.
        ValueError: that is no code of a language.
    """
    listed = entities if isinstance(entities, EntityList) else parse_entities(entities)
    return normalize_entities(listed, alphabet_of(texts), language)


def written_phrases(phrases: Iterable[str], alphabet: frozenset[str]) -> list[str]:
    """Distinct phrases as decoding writes them; blank ones and those that cannot be written are left out."""
    listed = parse_entities([phrase for phrase in phrases if phrase.strip()], "distractors")
    return list(normalize_entities(listed, alphabet).phrases)


def unwritten_lines(items: Sequence[Mapping[str, Any]], alphabet: frozenset[str]) -> list[int]:
    """The lines of a manifest, from 1 on, whose `text` has characters that a model with an alphabet cannot write."""
    return [number for number, item in enumerate(items, 1) if not (alphabet | {" "}).issuperset(item["text"])]


def written_items(
    items: Sequence[Mapping[str, Any]], alphabet: frozenset[str], manifest: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Manifest items whose `entities` are phrases as decoding writes them.

    Args:
        items: lines of a manifest with `entities`: what `parse_entities` takes, or one string.
        alphabet: of the model.
        manifest: its name, for messages.

    Returns:
        The items, and a sentence on each entity that cannot be written, and on references in other characters.

    Raises:
        EntityListError: an entity is broken.
    """
    written: list[dict[str, Any]] = []
    notes: list[str] = []
    strange = len(unwritten_lines(items, alphabet))
    for number, item in enumerate(items, 1):
        own = [item["entities"]] if isinstance(item["entities"], str) else item["entities"] or []
        normalized = normalize_entities(parse_entities(own, f"{manifest}, utterance {number}, entities"), alphabet)
        written.append({**item, "entities": list(normalized.phrases)})
        notes += normalized.unwritable
    if strange:
        share = f"{strange} of {len(items)} references have characters that the model cannot write"
        notes.append(f"{manifest}: {share}, so their words count as errors; write them in the model's style")
    return written, notes
