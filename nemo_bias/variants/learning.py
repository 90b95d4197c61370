"""Learns rewriting rules from what a recogniser writes where rare words are said.

What was written is aligned with what was said, word by word and then letter by letter, by the cheapest rules of the
package's table and single edits. Each change is counted, alone and with the letter before or after it, and

    P(b | a) = (changes of a into b + PRIOR * P0(b | a)) / (occurrences of a + PRIOR),

with P0 of the table, or 0. The formula is ours.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator

from nemo_bias.variants.graphemes import read_graphemes, rules_of
from nemo_bias.variants.rewriting import LONGEST, Rules

PRIOR = 10.0  # occurrences that the table counts as much as
DEAREST = 7.0  # nats; rules that cost more are left out
EDIT = 5.0  # nats of a letter that is changed, left out or put in, in the alignment
FARTHEST = 2.5  # nats a letter: pairs that lie further apart are something else, not another spelling
MOST_WORDS = 3  # of what was said; what was written may have one more

Pair = tuple[str, str]  # said, written


def pairs_of(said: str, written: str) -> Iterator[Pair]:
    """The stretches of two texts between words that they share, and these words."""
    before, after = said.split(), written.split()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield from zip(before[a:b], after[c:d], strict=True)
        elif kind == "replace" and b - a <= MOST_WORDS and d - c <= MOST_WORDS + 1:
            yield " ".join(before[a:b]), " ".join(after[c:d])


def learn_rules(pairs: Iterable[Pair]) -> tuple[Rules, int]:
    """Rules from pairs of what was said and what was written, and how many pairs were told apart and understood."""
    base = rules_of(read_graphemes())
    changes, occurrences = Counter[Pair](), Counter[str]()
    understood = 0
    for said, written in pairs:
        path = [] if said == written else alignment(said, written, base)
        if path is None:
            continue
        understood += said != written
        for length in range(1, LONGEST + 1):
            occurrences.update(said[k : k + length] for k in range(len(said) - length + 1))
        changes.update(_changes(path))
    rules: Rules = {}
    for source, target in {*base, *changes}:
        prior = math.exp(-base[source, target]) if (source, target) in base else 0.0
        probability = (changes[source, target] + PRIOR * prior) / (occurrences[source] + PRIOR)
        if probability > math.exp(-DEAREST):
            rules[source, target] = -math.log(min(1.0, probability))
    return rules, understood


def alignment(said: str, written: str, rules: Rules) -> list[Pair] | None:
    """The cheapest cut of two texts into rules, single edits and equal letters; None if they lie too far apart."""
    best = {(0, 0): (0.0, (0, 0))}
    for i in range(len(said) + 1):
        for j in range(len(written) + 1):
            if (i, j) not in best:
                continue
            cost = best[i, j][0]
            for k in range(min(LONGEST, len(said) - i) + 1):
                for n in range(min(LONGEST, len(written) - j) + 1):
                    source, target = said[i : i + k], written[j : j + n]
                    if k == n == 1 and source == target:
                        more = 0.0
                    elif 0 < k + n <= 2 and k <= 1 >= n:
                        more = min(EDIT, rules.get((source, target), EDIT))
                    else:
                        more = rules.get((source, target), math.inf)
                    there = (i + k, j + n)
                    if k + n and cost + more < best.get(there, (math.inf,))[0]:
                        best[there] = (cost + more, (i, j))
    at = (len(said), len(written))
    if best[at][0] > FARTHEST * max(at):
        return None
    path = []
    while at != (0, 0):
        before = best[at][1]
        path.append((said[before[0] : at[0]], written[before[1] : at[1]]))
        at = before
    return path[::-1]


def _changes(path: list[Pair]) -> Iterator[Pair]:
    """The changes of an alignment, alone and with what stands before or after them, as rules."""
    for k, (source, target) in enumerate(path):
        if source == target:
            continue
        for low, high in ((k, k + 1), (k - 1, k + 1), (k, k + 2)):
            before, after = ("".join(each) for each in zip(*path[max(0, low) : high], strict=True))
            if low >= 0 and high <= len(path) and 0 < len(before) <= LONGEST >= len(after):
                yield before, after
