"""Near lists: distractors that sound most like what is said, as in a list of names near ordinary words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nemo_bias.evaluation.endings import stems
from nemo_bias.evaluation.occurrences import Words
from nemo_bias.pronunciation.distance import packed
from nemo_bias.pronunciation.index import index_of, nearest
from nemo_bias.pronunciation.pronouncer import Pronouncer


def near_distractors(
    near: str, items: Iterable[Mapping[str, Any]], pool: Iterable[str], lexicon: str | None = None
) -> list[str]:
    """The phrases that a script's option ``--near`` asks for.

    Args:
        near: path of a file with a phrase a line, or a number: so many of `near_phrases`.
        items: lines of a manifest with `text` and `entities`.
        pool: phrases to choose from, for a number.
        lexicon: for a number, see `nemo_bias.pronunciation.Pronouncer`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the lexicon cannot be read, or the pool has too few phrases.
    """
    if near.isdecimal():
        return near_phrases(items, pool, int(near), Pronouncer(lexicon))
    return Path(near).read_text(encoding="utf-8").splitlines()


def near_phrases(items: Iterable[Mapping[str, Any]], pool: Iterable[str], count: int, pronouncer: Pronouncer) -> list[str]:
    """The phrases of a pool whose pronunciation lies nearest to a word or pair of words of the references.

    A phrase that is said, that is an inflection of what is said, or that is an entity of the data is not taken; nor is one
    without a pronunciation. Of each text, the most probable pronunciation counts.

    Args:
        items: lines of a manifest with `text` and `entities`.
        pool: phrases to choose from.
        count: phrases wanted.
        pronouncer: of the phrases and references.

    Returns:
        The phrases, the nearest first.

    Raises:
        ValueError: the pool has too few phrases, or no reference can be pronounced.
    """
    items = list(items)
    texts = [tuple(item["text"].split()) for item in items]
    entities = {entity for item in items for entity in item["entities"]}
    candidates = [phrase for phrase in dict.fromkeys(pool) if phrase.split() and phrase not in entities]
    said = _Said(texts, max((len(phrase.split()) for phrase in candidates), default=0))
    candidates = [phrase for phrase in candidates if not said.has(phrase.split())]
    references = sorted({" ".join(text[k : k + n]) for text in texts for n in (1, 2) for k in range(len(text) - n + 1)})
    pronounced = dict(zip(candidates, pronouncer.words(candidates), strict=True))
    candidates = [phrase for phrase in candidates if pronounced[phrase]]
    if len(candidates) < count:
        raise ValueError(f"{count} near phrases wanted, but the pool has only {len(candidates)} that are not said; add some")
    queries = [pronounced[phrase][0].phones for phrase in candidates]
    targets = [pronunciations[0].phones for pronunciations in pronouncer.words(references) if pronunciations]
    if not targets:
        raise ValueError("no reference has a pronunciation, so nothing is near; give a manifest of English speech")
    index = index_of([[target] for target in targets])
    _, distances = nearest(index, *packed([np.array(query, np.int32) for query in queries]), 1, np.float32(np.inf))
    return [candidates[k] for k in np.argsort(distances[:, 0], kind="stable")[:count]]


class _Said:
    """The phrases of texts, up to a number of words, with their inflections."""

    def __init__(self, texts: Iterable[Words], longest: int) -> None:
        self._phrases: set[Words] = set()
        self._words: dict[str, set[str]] = defaultdict(set)  # by what they may be inflections of
        for text in texts:
            self._phrases.update(text[k : k + n] for n in range(1, longest + 1) for k in range(len(text) - n + 1))
        for word in {word for text in texts for word in text}:
            for base in bases(word):
                self._words[base].add(word)

    def has(self, phrase: Sequence[str]) -> bool:
        """Whether a phrase is said, or one whose words are each the same or another form of the same word."""
        forms = [set().union(*(self._words.get(base, ()) for base in bases(word))) for word in phrase]
        return any(words in self._phrases for words in product(*forms))


def bases(word: str) -> set[str]:
    """The word, and what it may be an inflection of: two words with a common one count as forms of one word.

    Apostrophes at the edges do not count. Where an ending is cut off, ``i`` stands for ``y``, a doubled letter may be one,
    and before an ending with a vowel an ``e`` may have been.
    """
    word = word.strip("'")
    found = {word}
    for stem in stems(word):
        found.add(stem)
        if word[len(stem)] in "ei":
            found.add(stem + "e")
        if stem[-1:] == stem[-2:-1]:
            found.add(stem[:-1])
        if stem[-1] == "i":
            found.add(stem[:-1] + "y")
    return found
