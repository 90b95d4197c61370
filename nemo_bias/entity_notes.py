"""What looks wrong in an entity list. It is used all the same: only its author knows what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_bias.entities import Entity

COMMON_WORDS = 1000  # of English: a listed one is heard everywhere
SENTENCE_WORDS = 10  # a longer entity is hardly a name, term or phrase

_EMPTY_CELLS = frozenset("n/a #n/a na n.a. nan null none nil undefined unknown tbd - -- — – ? ...".split())  # noqa: SIM905
_HEADERS = frozenset("text name names phrase phrases term terms word words entity entities keyword keywords".split())  # noqa: SIM905
_COMMA = re.compile(r"[,;](?![0-9])")


def suspicions(entities: Iterable[Entity]) -> list[str]:
    """A sentence for each kind of entity that looks wrong, with the place of the first one and how many more there are."""
    found: dict[str, list[Entity]] = {}
    for entity in entities:
        if entity.weight <= 0:  # it is not looked for
            continue
        for kind, looks_so in _KINDS.items():
            if looks_so(entity):
                found.setdefault(kind, []).append(entity)
                break
    notes = []
    for kind, (first, *more) in found.items():
        others = f", and so {'is 1 other' if len(more) == 1 else f'are {len(more)} others'} of the list" if more else ""
        notes.append(f'{first.place}: "{first.text}" {kind}{others}')
    return notes


def _is_empty_cell(entity: Entity) -> bool:
    return entity.text.lower() in _EMPTY_CELLS


def _is_header(entity: Entity) -> bool:
    return entity.line == 1 and entity.text.lower() in _HEADERS


def _is_letter(entity: Entity) -> bool:
    return len(entity.text) == 1 and entity.text.lower() != entity.text.upper()  # a Chinese character may be a word


def _is_common_word(entity: Entity) -> bool:
    return " " not in entity.text and entity.text.lower() in _common_words()


def _holds_comment(entity: Entity) -> bool:
    return " # " in entity.text


def _is_sentence(entity: Entity) -> bool:
    words = len(entity.text.split())
    return words > SENTENCE_WORDS or (words > 3 and entity.text[-1] in ".!?")


def _holds_comma(entity: Entity) -> bool:
    return _COMMA.search(entity.text[:-1]) is not None


@cache
def _common_words() -> frozenset[str]:
    import wordfreq

    return frozenset(wordfreq.top_n_list("en", COMMON_WORDS))


_KINDS: dict[str, Callable[[Entity], bool]] = {  # the first one that fits
    "looks like an empty cell; it is kept: remove it": _is_empty_cell,
    "looks like the header of a column; it is kept: remove it": _is_header,
    "is a single letter, which is heard in many places; it is kept: remove it if it is not meant": _is_letter,
    "holds a comment, which is part of the phrase; put comments on lines of their own that begin with #": _holds_comment,
    "is a whole sentence; it is kept: list the names and terms in it instead": _is_sentence,
    "holds a comma and is one phrase; write one entity a line if several are meant": _holds_comma,
    f"is one of the {COMMON_WORDS:,} most common English words and heard in many places; it is kept: remove it if it is not "
    "meant": _is_common_word,
}
