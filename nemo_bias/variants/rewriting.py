"""Rewriting of letters: which other spellings a recogniser may write where a text is said, and at what cost.

A *rule* turns up to three letters of the text into up to three others. A rewriting is a text cut into rules; its cost is
the sum of theirs. Letters that stay cost nothing, so the text itself has the cost 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

LONGEST = 3  # letters on either side of a rule
NOTHING, SPACE = "-", "_"  # in files
HEADER = ("from", "to", "cost")

Rules = dict[tuple[str, str], float]  # from, to: nats


class Rewriter:
    """Finds the cheapest rewritings of texts.

    Args:
        rules: nats of each.
    """

    def __init__(self, rules: Mapping[tuple[str, str], float]) -> None:
        self._rules: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for (source, target), cost in sorted(rules.items(), key=lambda item: item[1]):
            if source and source != target:
                self._rules[source].append((target, cost))

    def rewritings(self, text: str, most: int, farthest: float) -> list[tuple[str, float]]:
        """The cheapest other spellings of a text, and their costs.

        Args:
            text: in lower case.
            most: how many are wanted.
            farthest: none costs more than this many nats.
        """
        width = most + 1  # the text itself is among the best of every place
        best: list[dict[str, float]] = [{} for _ in range(len(text) + 1)]
        best[0][""] = 0.0
        for at in range(len(text)):
            ways = sorted(best[at].items(), key=lambda item: item[1])[:width]
            for length in range(1, min(LONGEST, len(text) - at) + 1):
                source = text[at : at + length]
                after = best[at + length]
                for target, more in ((source, 0.0), *self._rules.get(source, ())):
                    if more > farthest:
                        break
                    for written, cost in ways:
                        if cost + more > farthest:
                            break
                        whole = written + target
                        if cost + more < after.get(whole, math.inf):
                            after[whole] = cost + more
        found = ((" ".join(written.split()), cost) for written, cost in best[-1].items())
        ranked = sorted((item for item in found if item[0] not in ("", text)), key=lambda item: item[1])
        return list(dict(reversed(ranked)).items())[::-1][:most] if ranked else []


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
            raise ValueError(f"{path}:{number}: {line[:40]!r} is no rule; give FROM, TO and nats of at least 0, separated by tabs")
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
