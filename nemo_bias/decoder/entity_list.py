"""A list of entities as the decoder takes it: phrases in all forms that may be found, compiled for a model's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.automaton import FIRST_EDGE, TOKEN, EntityAutomaton, compile_automaton, join_automata
from nemo_bias.decoder.phone_evidence import PhrasePhones, phrase_phones
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.weighing import FormFacts
from nemo_bias.pronunciation.distance import packed
from nemo_bias.pronunciation.index import PronunciationIndex, index_of
from nemo_bias.pronunciation.phones import Phones
from nemo_bias.variants.variant import Variant


class ShortestTokens(NamedTuple):
    """The fewest tokens that write each phrase as words of their own; none if tokens cannot.

    Attributes:
        token: ids, those of all phrases one after the other.
        first_token: [phrases + 1] where those of each phrase begin.
    """

    token: NDArray[np.int32]
    first_token: NDArray[np.int32]

    def of(self, phrase: int) -> NDArray[np.int32]:
        """Those of one phrase."""
        return self.token[self.first_token[phrase] : self.first_token[phrase + 1]]

    def joined(self, other: ShortestTokens) -> ShortestTokens:
        """Those of the phrases of both."""
        first_token = np.concatenate([self.first_token, other.first_token[1:] + self.first_token[-1]])
        return ShortestTokens(np.concatenate([self.token, other.token]), first_token)


@dataclass(frozen=True)
class CompiledList:
    """Phrases that the decoder can look for.

    Attributes:
        phrases: what is written if an entity is recognised.
        names: the entities as the list's author wrote them.
        weights: [phrases] each multiplies the odds of its phrase.
        forms: in which the phrases are looked for: as they are, on models that write both cases in other cases, and their
            variants.
        phrase_of: [forms] the phrase of each form.
        written_as: [forms] what is written where a form is found.
        variant_costs: [forms] nats, see `Variant`; 0 for a form that is none.
        automaton: the forms in a model's tokens.
        pronunciations: [phrases] of each phrase, [phones] arrays; none where nobody knows how it is said.
        index: of the pronunciations.
        likeness: [phrases] how common the ordinary words are that each sounds like, see `soundalikes`; 0 if none.
        classes: [phrases] the kind of each entity, "" if none.
        shortest: the fewest tokens that write each phrase.
        suppressed: phrases that are kept out of the text, in lower case, with their weights, below 0.
    """

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    weights: NDArray[np.float32]
    forms: tuple[str, ...]
    phrase_of: NDArray[np.int32]
    written_as: tuple[str, ...]
    variant_costs: NDArray[np.float32]
    automaton: EntityAutomaton
    pronunciations: tuple[tuple[NDArray[np.int32], ...], ...]
    index: PronunciationIndex
    likeness: NDArray[np.float32]
    classes: tuple[str, ...]
    shortest: ShortestTokens
    suppressed: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.phrases or self.suppressed)

    def __len__(self) -> int:
        return len(self.phrases)

    @cached_property
    def log_weights(self) -> NDArray[np.float32]:
        """[forms] what the weight of a form's phrase adds to its log-odds."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)[self.phrase_of]  # type: ignore[no-any-return]

    @cached_property
    def form_facts(self) -> FormFacts:
        """What is known of the forms, for compiled code."""
        others = [form != text for form, text in zip(self.forms, self.written_as, strict=True)]
        respelled = (self.variant_costs > 0) & np.array(others, np.bool_)
        return FormFacts(self.phrase_of, respelled, self.variant_costs, self.likeness[self.phrase_of])

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

    def joined(self, other: CompiledList) -> CompiledList:
        """Both lists as one, `other` behind.

        A phrase that is in both is one entity, with the better weight, and said as in either.
        """
        suppressed = {**self.suppressed, **other.suppressed}
        if not len(self) or not len(other):
            return replace(self if len(self) else other, suppressed=suppressed)
        entity = np.array([self._position.get(phrase, len(self) + k) for k, phrase in enumerate(other.phrases)], np.int32)
        weights = np.concatenate([self.weights, other.weights])
        np.maximum.at(weights, entity, other.weights)
        likeness = np.concatenate([self.likeness, other.likeness])
        np.maximum.at(likeness, entity, other.likeness)
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
            self.written_as + other.written_as,
            np.concatenate([self.variant_costs, other.variant_costs]),
            join_automata(self.automaton, other.automaton),
            tuple(pronunciations),
            self.index.joined(other.index, entity),
            likeness,
            self.classes + other.classes,
            self.shortest.joined(other.shortest),
            suppressed,
        )

    def with_one_automaton(self, vocabulary: Vocabulary) -> CompiledList:
        """The same list, each form once, in an automaton in which a token leads from a node to one other only.

        In that of joined lists it may lead from the root to two (`join_automata`).
        """
        root = self.automaton.edges[: self.automaton.nodes[1, FIRST_EDGE], TOKEN]
        if len(np.unique(root)) == len(root):
            return self
        first = {form: k for k, form in reversed(list(enumerate(self.forms)))}
        kept = sorted(first.values())
        return replace(
            self,
            forms=tuple(self.forms[k] for k in kept),
            phrase_of=self.phrase_of[kept],
            written_as=tuple(self.written_as[k] for k in kept),
            variant_costs=self.variant_costs[kept],
            automaton=compile_automaton([self.forms[k] for k in kept], vocabulary),
        )


def compile_list(
    phrases: Sequence[str],
    vocabulary: Vocabulary,
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    pronunciations: Sequence[Sequence[Phones]] | None = None,
    variants: Sequence[Sequence[Variant]] | None = None,
    classes: Sequence[str] | None = None,
    likeness: NDArray[np.float32] | None = None,
) -> CompiledList:
    """Compiles distinct phrases, written in a model's characters.

    Args:
        phrases: what the decoder shall recognise.
        vocabulary: the model's tokens.
        weights: [phrases] each multiplies the odds of its phrase; 1 by default.
        names: [phrases] the entities as their author wrote them; by default the phrases.
        pronunciations: [phrases] the phone ids of the ways in which each phrase may be said; by default none is known.
        variants: [phrases] further forms of each phrase, of which none is a phrase; by default there are none.
        classes: [phrases] the kind of each entity; by default none has one.
        likeness: [phrases] how common the ordinary words are that each sounds like; by default there are none.

    Raises:
        ValueError: a phrase is empty or occurs twice, or the numbers differ.
    """
    if len(set(phrases)) != len(phrases) or "" in phrases:
        raise ValueError("phrases must be distinct and not empty")
    array = np.ones(len(phrases), np.float32) if weights is None else np.asarray(weights, np.float32)
    shown = tuple(phrases if names is None else names)
    said = [()] * len(phrases) if pronunciations is None else pronunciations
    like = np.zeros(len(phrases), np.float32) if likeness is None else likeness
    if array.shape != (len(phrases),) or not len(shown) == len(said) == len(like) == len(phrases):
        counts = f"{array.size} weights, {len(shown)} names, pronunciations of {len(said)} and likeness of {len(like)}"
        raise ValueError(f"{len(phrases)} phrases, but {counts}")
    owner = {phrase: _Form(k, phrase) for k, phrase in enumerate(phrases)}
    if vocabulary.writes_both_cases:
        for k, phrase in enumerate(phrases):
            for form in case_forms(phrase):
                owner.setdefault(form, _Form(k, phrase))
    for k, own in enumerate(variants or ()):
        for variant in own:
            for text in variant_cases(variant.text, phrases[k]) if vocabulary.writes_both_cases else (variant.text,):
                owner.setdefault(text, _Form(k, text if variant.keeps_spelling else phrases[k], variant.cost))
    return CompiledList(
        *(tuple(phrases), shown, array, tuple(owner)),
        np.array([form.phrase for form in owner.values()], np.int32),
        tuple(form.written_as for form in owner.values()),
        np.array([form.cost for form in owner.values()], np.float32),
        compile_automaton(tuple(owner), vocabulary),
        tuple(tuple(np.array(phones, np.int32) for phones in own) for own in said),
        index_of(said),
        like,
        tuple(classes or [""] * len(phrases)),
        shortest_tokens(phrases, vocabulary),
    )


def shortest_tokens(phrases: Sequence[str], vocabulary: Vocabulary) -> ShortestTokens:
    """The fewest tokens that write each of some phrases."""
    shortest = (vocabulary.shortest(vocabulary.marked(phrase)[0]) for phrase in phrases)
    return ShortestTokens(*packed([np.array(tokens or (), np.int32) for tokens in shortest]))


class _Form(NamedTuple):
    """What a form stands for: its phrase, what is written where it is found, and what it costs."""

    phrase: int
    written_as: str
    cost: float = 0.0


def case_forms(phrase: str) -> tuple[str, ...]:
    """A phrase as it may be written: lower, upper, with capitals at all words, and at the first."""
    capitals = " ".join(word[:1].upper() + word[1:] for word in phrase.split(" "))
    title = " ".join(word[:1].upper() + word[1:].lower() for word in phrase.split(" "))
    return tuple(dict.fromkeys((phrase[:1].upper() + phrase[1:], capitals, title, phrase.lower(), phrase.upper())))


def variant_cases(variant: str, phrase: str) -> tuple[str, ...]:
    """A variant in the case of a phrase, and in lower case."""
    if phrase.isupper():
        like = variant.upper()
    elif phrase[:1].isupper():
        like = " ".join(word[:1].upper() + word[1:] for word in variant.split(" "))
    else:
        like = variant
    return tuple(dict.fromkeys((like, variant, variant.lower())))
