"""The entity automaton: every way to write every entity in the tokens of a model, in flat arrays.

All entities share one trie over characters. Its edges are not characters but *tokens*: an edge leads from a node to the
node that its token's characters reach, so a path from the root to an entity's last node is one tokenisation of the
entity, and all of them are there. A search pays for the edges that it follows, not for the entities that there are.

Example: with the tokens ``▁t``, ``▁to``, ``o``, ``m`` and the entities ``to`` and ``tom`` the nodes are ``""``, ``▁t``,
``▁to``, ``▁tom`` (``▁`` alone is no token here, so that node has no edge and is left out), and the edges are
``"" -▁t-> ▁t``, ``"" -▁to-> ▁to``, ``▁t -o-> ▁to`` and ``▁to -m-> ▁tom``. ``to`` ends at ``▁to``, ``tom`` at ``▁tom``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.vocabulary import Vocabulary

IntArray = NDArray[np.int32]

NO_ENTITY = -1
ROOT = 0


class EntityAutomaton(NamedTuple):
    """Nodes and token edges of an entity list; node 0 is the root.

    What is read together lies together, since a long list does not fit a processor's caches.

    Attributes:
        nodes: [nodes + 1, 3] of each node: its first edge; the entity that ends at it, or ``NO_ENTITY``; its depth, which is
            the number of characters between it and the root, word starts counted. Its edges end where the next node's begin.
        edges: [edges, 2] of each edge: token, node that it leads to. A node's edges are sorted by token.
        written: [entities] whether the tokens can write the entity.
        piece_length: [V] characters of each token.
    """

    nodes: IntArray
    edges: IntArray
    written: NDArray[np.bool_]
    piece_length: IntArray


FIRST_EDGE, ENTITY, DEPTH = range(3)  # columns of `nodes`
TOKEN, TARGET = range(2)  # columns of `edges`


@njit
def first_edge_of(edges, begin, end, token):  # type: ignore[no-untyped-def]
    """The first of the edges begin..end, sorted by token, that reads a token; -1 if none does."""
    low, high = begin, end
    while low < high:
        middle = (low + high) >> 1
        if edges[middle, TOKEN] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < end and edges[low, TOKEN] == token else -1


def compile_automaton(phrases: Sequence[str], vocabulary: Vocabulary) -> EntityAutomaton:
    """Compiles phrases into an automaton over a model's tokens.

    Args:
        phrases: distinct phrases in the model's own characters, words separated by one space.
        vocabulary: the model's tokens.

    Returns:
        The automaton; entity ``i`` is ``phrases[i]``. A phrase that the tokens cannot write has no path; ``written``
        tells which.

    Raises:
        ValueError: a phrase is empty or occurs twice.
    """
    if len(set(phrases)) != len(phrases) or "" in phrases:
        raise ValueError("phrases must be distinct and not empty")
    marked = sorted((form, i) for i, phrase in enumerate(phrases) for form in vocabulary.marked(phrase))
    child, sibling, char, end, depth = _trie(*_codes([m for m, _ in marked]))
    pieces = sorted((p, i) for i, p in enumerate(vocabulary.pieces) if p and i != vocabulary.blank)
    token_of = np.array([i for _, i in pieces], dtype=np.int32)
    source, token, target = _token_edges(child, sibling, char, *_trie(*_codes([p for p, _ in pieces]))[:4], token_of)
    keep = _useful_edges(source, target, end >= 0)
    entity_of = np.array([i for _, i in marked] + [NO_ENTITY], dtype=np.int32)
    piece_length = np.zeros(vocabulary.size, np.int32)
    piece_length[: len(vocabulary.pieces)] = [len(piece) for piece in vocabulary.pieces]
    nodes, edges = _pack(source[keep], token[keep], target[keep], entity_of[end], depth)
    written = np.zeros(len(phrases), dtype=np.bool_)
    written[nodes[nodes[:, ENTITY] != NO_ENTITY, ENTITY]] = True
    return EntityAutomaton(nodes, edges, written, piece_length)


def _codes(strings: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """-> code points of all strings in a row, and where each string starts (and the last one ends)."""
    lengths = np.fromiter((len(s) for s in strings), dtype=np.int64, count=len(strings))
    codes = np.frombuffer("".join(strings).encode("utf-32-le"), dtype=np.uint32)
    return codes, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


@njit
def _trie(chars, offsets):  # type: ignore[no-untyped-def]
    """Trie of sorted strings: first child, next sibling and character of each node, the string that ends there, depth.

    Nodes are numbered in preorder, so a parent comes before its children.
    """
    limit = len(chars) + 1
    child = np.full(limit, -1, np.int32)
    sibling = np.full(limit, -1, np.int32)
    char = np.zeros(limit, np.uint32)
    end = np.full(limit, -1, np.int32)
    depth_of = np.zeros(limit, np.int32)
    last_child = np.full(limit, -1, np.int32)
    longest = 0
    for s in range(len(offsets) - 1):
        longest = max(longest, offsets[s + 1] - offsets[s])
    path = np.zeros(longest + 1, np.int32)  # nodes of the current string, the root first
    nodes, depth = 1, 0
    for s in range(len(offsets) - 1):
        begin, length = offsets[s], offsets[s + 1] - offsets[s]
        shared = 0
        while shared < length and shared < depth and char[path[shared + 1]] == chars[begin + shared]:
            shared += 1
        for d in range(shared, length):
            parent = path[d]
            char[nodes] = chars[begin + d]
            if last_child[parent] < 0:
                child[parent] = nodes
            else:
                sibling[last_child[parent]] = nodes
            last_child[parent] = nodes
            depth_of[nodes] = d + 1
            path[d + 1] = nodes
            nodes += 1
        depth = length
        if end[path[depth]] < 0:
            end[path[depth]] = s
    return child[:nodes], sibling[:nodes], char[:nodes], end[:nodes], depth_of[:nodes]


@njit
def _token_edges(child, sibling, char, v_child, v_sibling, v_char, v_end, token_of):  # type: ignore[no-untyped-def]
    """All (node, token, node) triples in which the token's characters lead from one node of the trie to another."""
    capacity = 4 * len(child) + 16
    source = np.empty(capacity, np.int32)
    token = np.empty(capacity, np.int32)
    target = np.empty(capacity, np.int32)
    edges = 0
    stack = np.empty((len(v_child) + 8, 2), np.int32)
    reached = np.zeros(len(child), np.bool_)
    reached[0] = True
    for start in range(len(child)):  # preorder: every edge into `start` was made before
        if not reached[start]:
            continue
        top = 0
        stack[0, 0], stack[0, 1] = start, 0
        while top >= 0:
            node, v_node = stack[top]
            top -= 1
            a, b = child[node], v_child[v_node]
            while a >= 0 and b >= 0:  # children are sorted by character in both tries
                if char[a] < v_char[b]:
                    a = sibling[a]
                elif char[a] > v_char[b]:
                    b = v_sibling[b]
                else:
                    if v_end[b] >= 0:
                        if edges == capacity:
                            capacity *= 2
                            source = np.concatenate((source, np.empty(edges, np.int32)))
                            token = np.concatenate((token, np.empty(edges, np.int32)))
                            target = np.concatenate((target, np.empty(edges, np.int32)))
                        source[edges], token[edges], target[edges] = start, token_of[v_end[b]], a
                        reached[a] = True
                        edges += 1
                    top += 1
                    stack[top, 0], stack[top, 1] = a, b
                    a, b = sibling[a], v_sibling[b]
    return source[:edges], token[:edges], target[:edges]


@njit
def _useful_edges(source, target, is_end):  # type: ignore[no-untyped-def]
    """Which edges lie on a path to the end of an entity (edges are sorted by source, and lead to higher nodes)."""
    useful = is_end.copy()
    keep = np.zeros(len(source), np.bool_)
    for e in range(len(source) - 1, -1, -1):
        if useful[target[e]]:
            useful[source[e]] = True
            keep[e] = True
    return keep


def _pack(
    source: IntArray, token: IntArray, target: IntArray, entity: IntArray, depth: IntArray
) -> tuple[IntArray, IntArray]:
    """Numbers the nodes that edges touch by depth, sorts each node's edges by token, and lays out both.

    By depth, since searches visit the first levels again and again: so they lie close together.
    """
    used = np.zeros(len(entity), dtype=np.bool_)
    used[ROOT] = True
    used[target] = True
    by_depth = np.flatnonzero(used)
    by_depth = by_depth[np.argsort(depth[by_depth], kind="stable")]
    number = np.empty(len(entity), np.int32)
    number[by_depth] = np.arange(len(by_depth), dtype=np.int32)
    nodes = np.empty((len(by_depth) + 1, 3), np.int32)
    nodes[0, FIRST_EDGE] = 0
    nodes[1:, FIRST_EDGE] = np.cumsum(np.bincount(number[source], minlength=len(by_depth)))
    nodes[:-1, ENTITY], nodes[:-1, DEPTH] = entity[by_depth], depth[by_depth]
    nodes[[ROOT, -1], ENTITY], nodes[-1, DEPTH] = NO_ENTITY, 0
    by_token = np.lexsort((token, number[source]))
    return nodes, np.stack([token[by_token], number[target[by_token]]], axis=1).astype(np.int32)


def join_automata(first: EntityAutomaton, second: EntityAutomaton) -> EntityAutomaton:
    """One automaton with the entities of both; those of `second` follow those of `first`.

    The roots become one, in which a token may then have two edges, that of `second` first. Everything else is copied
    as it is, so joining a short list to a long one costs a copy and no compilation.
    """
    count, edges = len(first.nodes) - 1, len(first.edges)
    root_first, root_second = first.nodes[1, FIRST_EDGE], second.nodes[1, FIRST_EDGE]
    shifted = second.edges + np.array([0, count - 1], np.int32)  # the root of `second` is not copied
    root = np.concatenate([shifted[:root_second], first.edges[:root_first]])
    root = root[np.argsort(root[:, TOKEN], kind="stable")]
    nodes = np.concatenate([first.nodes[:-1], second.nodes[1:]])
    nodes[1:count, FIRST_EDGE] += root_second
    nodes[count:, FIRST_EDGE] += edges
    of_second = nodes[count:, ENTITY]
    of_second[of_second != NO_ENTITY] += len(first.written)
    return EntityAutomaton(
        nodes,
        np.concatenate([root, first.edges[root_first:], shifted[root_second:]]),
        np.concatenate([first.written, second.written]),
        first.piece_length,
    )
