"""Rewriting of letters: which other spellings a recogniser may write where a text is said, and at what cost.

A *rule* turns up to three letters of the text into up to three others. A rewriting is a text cut into rules; its cost is
the sum of theirs, and of how much less its letters look like those of frequent words than the text's own do: `PLAUSIBILITY`
times the difference of their log-probabilities in a letter trigram model. Letters that stay cost nothing.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit

LONGEST = 3  # letters on either side of a rule
LONGEST_TEXT = 40  # letters; longer texts have no rewritings
PLAUSIBILITY = np.float32(0.5)
FREQUENT_WORDS = 30_000
NOTHING, SPACE = "-", "_"  # in files
HEADER = ("from", "to", "cost")
SYMBOLS = " " + string.ascii_lowercase + "'"
_CODES = {letter: code for code, letter in enumerate(SYMBOLS)}
_ASCII = np.frombuffer(SYMBOLS.encode("ascii"), np.uint8)
EDGE = 0  # the code of a space, and of what lies around a text

Rules = dict[tuple[str, str], float]  # from, to: nats


class Rewriter:
    """Finds the cheapest rewritings of texts.

    Args:
        rules: nats of each; those with other characters than a-z, the apostrophe and the space are not used.
    """

    def __init__(self, rules: Mapping[tuple[str, str], float]) -> None:
        usable = [(s, t, c) for (s, t), c in rules.items() if s and s != t and set(s + t) <= set(SYMBOLS)]
        usable.sort(key=lambda rule: (_key(_codes(rule[0])), rule[2]))
        self._keys = np.array([_key(_codes(s)) for s, _, _ in usable], np.int64)
        self._targets = np.zeros((len(usable), LONGEST + 1), np.int8)  # the last column is the length
        for k, (_, target, _) in enumerate(usable):
            self._targets[k, : len(target)], self._targets[k, LONGEST] = _codes(target), len(target)
        self._costs = np.array([c for _, _, c in usable], np.float32)

    def rewritings(self, text: str, most: int, farthest: float) -> list[tuple[str, float]]:
        """The cheapest other spellings of a text, and their costs.

        Args:
            text: in lower case; one with other characters than the rules' has none.
            most: how many are wanted.
            farthest: none costs more than this many nats.
        """
        if not text or len(text) > LONGEST_TEXT or not set(text) <= set(SYMBOLS):
            return []
        written, lengths, costs = _rewritings(
            *(_codes(text), self._keys, self._targets, self._costs, letter_trigrams()),
            *(2 * most, np.float32(farthest), PLAUSIBILITY),
        )
        letters, found = _ASCII[written], dict[str, float]()
        for k in np.argsort(costs, kind="stable").tolist():
            other = " ".join(letters[k, : lengths[k]].tobytes().decode("ascii").split())
            if other and other != text and costs[k] <= farthest:
                found.setdefault(other, max(0.1, float(costs[k])))
        return list(found.items())[:most]


def _codes(text: str) -> NDArray[np.int8]:
    return np.array([_CODES[letter] for letter in text], np.int8)


@njit
def _key(codes):  # type: ignore[no-untyped-def]
    """A number for up to `LONGEST` codes."""
    key = 0
    for code in codes:
        key = key * 32 + code + 1
    return key


@lru_cache(maxsize=1)
def letter_trigrams() -> NDArray[np.float32]:
    """[symbols, symbols, symbols] minus the log-probability of a letter after two others, in frequent English words."""
    import wordfreq

    counts = np.full((len(SYMBOLS),) * 3, 0.1)
    for word in wordfreq.top_n_list("en", FREQUENT_WORDS):
        if set(word) <= set(SYMBOLS):
            codes = [EDGE, EDGE, *_codes(word).tolist(), EDGE]
            for k in range(2, len(codes)):
                counts[codes[k - 2], codes[k - 1], codes[k]] += 1
    nats: NDArray[np.float32] = -np.log(counts / counts.sum(axis=2, keepdims=True)).astype(np.float32)
    return nats


@njit
def _rewritings(text, keys, targets, rule_costs, trigrams, width, farthest, plausibility):  # type: ignore[no-untyped-def]
    """A beam search over the rewritings of a text: codes, lengths and costs of the best."""
    places, longest = len(text) + 1, 2 * len(text) + LONGEST
    written, length = np.zeros((places, width, longest), np.int8), np.zeros((places, width), np.int32)
    cost, count = np.empty((places, width), np.float32), np.zeros(places, np.int32)
    usual = np.zeros(places, np.float32)  # of the text's own letters, up to each place
    for at in range(places):
        before = text[at - 1] if at > 0 else EDGE
        letter = text[at] if at < len(text) else EDGE
        nats = plausibility * trigrams[text[at - 2] if at > 1 else EDGE, before, letter]
        if at < len(text):
            usual[at + 1] = usual[at] + nats
        else:
            ending = nats
    cost[0, 0], count[0] = 0, 1
    one = np.zeros(LONGEST + 1, np.int8)
    one[LONGEST] = 1
    whole = np.zeros(longest, np.int8)
    for at in range(len(text)):
        for k in range(count[at]):
            for span in range(1, min(LONGEST, len(text) - at) + 1):
                key = _key(text[at : at + span])
                first = np.searchsorted(keys, key)
                rule = first - 1 if span == 1 else first  # the letter as it is, and then the rules
                while rule < first or (rule < len(keys) and keys[rule] == key):
                    one[0] = text[at]
                    target = one if rule < first else targets[rule]
                    more = np.float32(0) if rule < first else rule_costs[rule]
                    rule += 1
                    size = length[at, k]
                    total = cost[at, k] + more - (usual[at + span] - usual[at])
                    if size + target[LONGEST] > longest:
                        continue
                    for letter in range(size):
                        whole[letter] = written[at, k, letter]
                    for letter in target[: target[LONGEST]]:
                        total += (
                            plausibility
                            * trigrams[whole[size - 2] if size > 1 else EDGE, whole[size - 1] if size > 0 else EDGE, letter]
                        )
                        whole[size] = letter
                        size += 1
                    if total > farthest + 2:
                        continue
                    there = at + span
                    count[there] = _kept(written[there], length[there], cost[there], count[there], whole, size, total)
    last = places - 1
    for k in range(count[last]):
        size = length[last, k]
        cost[last, k] -= ending
        cost[last, k] += (
            plausibility
            * trigrams[
                written[last, k, size - 2] if size > 1 else EDGE, written[last, k, size - 1] if size > 0 else EDGE, EDGE
            ]
        )
    return written[last, : count[last]], length[last, : count[last]], cost[last, : count[last]]


@njit
def _kept(written, length, cost, count, whole, size, total):  # type: ignore[no-untyped-def]
    """Keeps a rewriting, if it is among the best of its place; returns how many these are."""
    worst = 0
    for k in range(1, count):
        if cost[k] > cost[worst]:
            worst = k
    if count == len(cost) and cost[worst] <= total:
        return count
    for k in range(count):
        same = length[k] == size
        at = size - 1
        while same and at >= 0:
            same = written[k, at] == whole[at]
            at -= 1
        if same:
            cost[k] = min(cost[k], total)
            return count
    if count < len(cost):
        worst = count
        count += 1
    for at in range(size):
        written[worst, at] = whole[at]
    length[worst], cost[worst] = size, total
    return count


def read_rules(path: str | Path) -> Rules:
    """Reads rules, as `write_rules` writes them.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is no rule; the message names file and line.
    """
    rules: Rules = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("#") or tuple(cells) == HEADER:
            continue
        try:
            source, target, cost = cells
            rules[_letters(source), _letters(target)] = nats = float(cost)
        except ValueError:
            nats = math.nan
        if not nats >= 0 or not source or not target:
            reason = f"{line[:40]!r} is no rule; give FROM, TO and nats of at least 0, separated by tabs"
            raise ValueError(f"{path}:{number}: {reason}")
    return rules


def write_rules(path: str | Path, rules: Mapping[tuple[str, str], float], comment: str) -> None:
    """Writes rules, the cheapest first; `-` stands for nothing and `_` for a space."""
    ranked = sorted(rules.items(), key=lambda item: (item[1], item[0]))
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += ["\t".join(HEADER), *(f"{_shown(a)}\t{_shown(b)}\t{cost:.3f}" for (a, b), cost in ranked)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _letters(cell: str) -> str:
    return "" if cell == NOTHING else cell.replace(SPACE, " ")


def _shown(letters: str) -> str:
    return letters.replace(" ", SPACE) or NOTHING
