"""A list of entities as the decoder takes it: phrases in all forms that may be found, compiled for a model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.automaton import EntityAutomaton, compile_automaton, join_automata
from nemo_bias.decoder.phone_evidence import PhrasePhones, phrase_phones
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.pronunciation.index import PronunciationIndex, index_of
from nemo_bias.pronunciation.phones import Phones


@dataclass(frozen=True)
class CompiledList:
    """Phrases that the decoder can look for.

    Attributes:
        phrases: what is written if an entity is recognised.
        names: the entities as the list's author wrote them.
        weights: [phrases] each multiplies the odds of its phrase.
        forms: in which the phrases are looked for: as they are, and on models that write both cases in other cases.
        phrase_of: [forms] the phrase of each form.
        automaton: the forms in a model's tokens.
        pronunciations: [phrases] of each phrase, [phones] arrays; none where nobody knows how it is said.
        index: of the pronunciations.
        classes: [phrases] the kind of each entity, "" if none.
    """

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    weights: NDArray[np.float32]
    forms: tuple[str, ...]
    phrase_of: NDArray[np.int32]
    automaton: EntityAutomaton
    pronunciations: tuple[tuple[NDArray[np.int32], ...], ...]
    index: PronunciationIndex
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.phrases)

    @cached_property
    def log_weights(self) -> NDArray[np.float32]:
        """[forms] what the weight of a form's phrase adds to its log-odds."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)[self.phrase_of]  # type: ignore[no-any-return]

    @cached_property
    def form_of(self) -> NDArray[np.int32]:
        """[phrases] the form that is the phrase as it is: its first one."""
        form_of = np.zeros(len(self), np.int32)
        form_of[self.phrase_of[::-1]] = np.arange(len(self.forms), dtype=np.int32)[::-1]
        return form_of

    @cached_property
    def written(self) -> NDArray[np.bool_]:
        """[phrases] whether the tokens can write the phrase."""
        writable = {form for form, can in zip(self.forms, self.automaton.written, strict=True) if can}
        return np.array([phrase in writable for phrase in self.phrases], np.bool_)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {phrase: k for k, phrase in enumerate(self.phrases)}

    def shortest_tokens(self, phrase: int, vocabulary: Vocabulary) -> tuple[int, ...] | None:
        """The fewest tokens that write a phrase as words of their own; None if they cannot."""
        if phrase not in self._shortest:
            self._shortest[phrase] = vocabulary.shortest(vocabulary.marked(self.phrases[phrase])[0])
        return self._shortest[phrase]

    def pronunciations_of(self, name: str) -> tuple[NDArray[np.int32], ...]:
        """The pronunciations of the entity of a name; none where nobody knows how it is said."""
        return self.pronunciations[self._position_of_name[name]]

    @cached_property
    def _position_of_name(self) -> dict[str, int]:
        return {name: k for k, name in reversed(list(enumerate(self.names)))}  # of joined lists, the first

    @cached_property
    def phones(self) -> PhrasePhones:
        """The pronunciations of all phrases, for compiled code."""
        return phrase_phones(self.pronunciations)

    @cached_property
    def _shortest(self) -> dict[int, tuple[int, ...] | None]:
        return {}

    def joined(self, other: CompiledList) -> CompiledList:
        """Both lists as one, `other` behind.

        A phrase that is in both is one entity, with the better weight and the pronunciations of both.
        """
        if not len(self) or not len(other):
            return self if len(self) else other
        entity = np.array([self._position.get(phrase, len(self) + k) for k, phrase in enumerate(other.phrases)], np.int32)
        weights = np.concatenate([self.weights, other.weights])
        np.maximum.at(weights, entity, other.weights)
        pronunciations = [*self.pronunciations, *other.pronunciations]
        for own, first in zip(other.pronunciations, entity.tolist(), strict=True):
            if first < len(self):
                pronunciations[first] += own
        return CompiledList(
            self.phrases + other.phrases,
            self.names + other.names,
            weights,
            self.forms + other.forms,
            np.concatenate([self.phrase_of, entity[other.phrase_of]]),
            join_automata(self.automaton, other.automaton),
            tuple(pronunciations),
            self.index.joined(other.index, entity),
            self.classes + other.classes,
        )


def compile_list(
    phrases: Sequence[str],
    vocabulary: Vocabulary,
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    pronunciations: Sequence[Sequence[Phones]] | None = None,
    classes: Sequence[str] | None = None,
) -> CompiledList:
    """Compiles distinct phrases, written in a model's characters.

    Args:
        phrases: what the decoder shall recognise.
        vocabulary: the model's tokens.
        weights: [phrases] each multiplies the odds of its phrase; 1 by default.
        names: [phrases] the entities as their author wrote them; by default the phrases.
        pronunciations: [phrases] the phone ids of the ways in which each phrase may be said; by default none is known.
        classes: [phrases] the kind of each entity; by default none has one.

    Raises:
        ValueError: a phrase is empty or occurs twice, or the numbers differ.
    """
    if len(set(phrases)) != len(phrases) or "" in phrases:
        raise ValueError("phrases must be distinct and not empty")
    array = np.ones(len(phrases), np.float32) if weights is None else np.asarray(weights, np.float32)
    shown = tuple(phrases if names is None else names)
    said = [()] * len(phrases) if pronunciations is None else pronunciations
    if array.shape != (len(phrases),) or not len(shown) == len(said) == len(phrases):
        counts = f"{array.size} weights, {len(shown)} names and pronunciations of {len(said)}"
        raise ValueError(f"{len(phrases)} phrases, but {counts}")
    owner = {phrase: k for k, phrase in enumerate(phrases)}
    if vocabulary.writes_both_cases:
        for k, phrase in enumerate(phrases):
            for form in case_forms(phrase):
                owner.setdefault(form, k)
    phrase_of = np.fromiter(owner.values(), np.int32, len(owner))
    return CompiledList(
        *(tuple(phrases), shown, array, tuple(owner), phrase_of, compile_automaton(tuple(owner), vocabulary)),
        tuple(tuple(np.array(phones, np.int32) for phones in own) for own in said),
        index_of(said),
        tuple(classes or [""] * len(phrases)),
    )


def case_forms(phrase: str) -> tuple[str, ...]:
    """A phrase as it may be written: lower, upper, with capitals at all words, and at the first."""
    capitals = " ".join(word[:1].upper() + word[1:] for word in phrase.split(" "))
    title = " ".join(word[:1].upper() + word[1:].lower() for word in phrase.split(" "))
    return tuple(dict.fromkeys((phrase[:1].upper() + phrase[1:], capitals, title, phrase.lower(), phrase.upper())))
