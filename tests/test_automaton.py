"""The automaton holds every tokenisation of every entity, and nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nemo_bias.decoder.automaton import (
    DEPTH,
    FIRST_EDGE,
    NO_ENTITY,
    TOKEN,
    EntityAutomaton,
    compile_automaton,
    join_automata,
)
from nemo_bias.decoder.vocabulary import Vocabulary


def paths(automaton: EntityAutomaton) -> set[tuple[int, tuple[int, ...]]]:
    """All (entity, tokens) from the root to an entity's end."""
    found = set()
    stack: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while stack:
        node, tokens = stack.pop()
        first_edge, entity, _ = automaton.nodes[node].tolist()
        if entity != NO_ENTITY:
            found.add((entity, tokens))
        for token, target in automaton.edges[first_edge : automaton.nodes[node + 1, FIRST_EDGE]].tolist():
            stack.append((target, (*tokens, token)))
    return found


def tokenisations(text: str, pieces: tuple[str, ...]) -> set[tuple[int, ...]]:
    """All ways to write a text, by trying every piece."""
    if not text:
        return {()}
    found = set()
    for i, piece in enumerate(pieces):
        if piece and text.startswith(piece):
            found |= {(i, *rest) for rest in tokenisations(text[len(piece) :], pieces)}
    return found


def expected(phrases: list[str], vocabulary: Vocabulary) -> set[tuple[int, tuple[int, ...]]]:
    forms = [(i, form) for i, phrase in enumerate(phrases) for form in vocabulary.marked(phrase)]
    return {(i, tokens) for i, form in forms for tokens in tokenisations(form, vocabulary.pieces)}


def random_phrases(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    word = lambda: "".join(draw.choices("abenorst", k=draw.randint(1, 5)))  # noqa: E731
    return list(dict.fromkeys(" ".join(word() for _ in range(draw.randint(1, 3))) for _ in range(count)))


def test_example_of_the_docstring():
    vocabulary = Vocabulary(("▁t", "▁to", "o", "m"), 4)
    automaton = compile_automaton(["to", "tom"], vocabulary)
    assert paths(automaton) == {(0, (0, 2)), (0, (1,)), (1, (0, 2, 3)), (1, (1, 3))}
    assert automaton.nodes[:-1, DEPTH].tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_every_tokenisation_is_a_path(seed, subwords, characters):
    for vocabulary in (subwords, characters):
        phrases = random_phrases(seed, 20)
        assert paths(compile_automaton(phrases, vocabulary)) == expected(phrases, vocabulary)


@pytest.mark.parametrize("seed", range(5))
def test_joined_automata_hold_the_paths_of_both(seed, subwords):
    first, second = random_phrases(seed, 15), random_phrases(seed + 100, 5)
    joined = join_automata(compile_automaton(first, subwords), compile_automaton(second, subwords))
    assert paths(joined) == expected(first + second, subwords)
    for node in range(len(joined.nodes) - 1):
        edges = joined.edges[joined.nodes[node, FIRST_EDGE] : joined.nodes[node + 1, FIRST_EDGE]]
        assert (np.diff(edges[:, TOKEN]) >= 0).all()


def test_a_phrase_that_the_tokens_cannot_write_is_told(subwords):
    automaton = compile_automaton(["born", "xylon", "tar"], subwords)
    assert automaton.written.tolist() == [True, False, True]
    assert {entity for entity, _ in paths(automaton)} == {0, 2}


def test_no_phrases(subwords):
    automaton = compile_automaton([], subwords)
    assert automaton.nodes[:, FIRST_EDGE].tolist() == [0, 0]


@pytest.mark.parametrize("phrases", [["born", "born"], [""]])
def test_phrases_must_be_distinct_and_not_empty(phrases, subwords):
    with pytest.raises(ValueError, match="distinct and not empty"):
        compile_automaton(phrases, subwords)
