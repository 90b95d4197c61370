"""How phones are written, and the rewriting rules that follow: letters are heard as phones, and written in other letters."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from nemo_bias.pronunciation.distance import feature_costs
from nemo_bias.pronunciation.phones import PHONE_IDS, PHONES
from nemo_bias.variants.rewriting import LONGEST, Rules

DEFAULT_FILE = Path(__file__).with_name("graphemes.tsv")
HEADER = ("phone", "letters", "share")
ERROR_RATE = 0.25  # how often a letter is not written as it is listed
MISHEARING = 0.12  # a phone is taken for another with the weight exp(-distance / MISHEARING)
DEAREST = 6.0  # nats; rules that cost more are left out
DOUBLING = 3.5  # nats of a consonant that is doubled
HALVING = 2.0  # nats of one that is not

Graphemes = dict[str, dict[str, float]]  # of each phone, how it is written, and how often


@lru_cache(maxsize=4)
def read_graphemes(path: str | Path = DEFAULT_FILE) -> Graphemes:
    """Reads how phones are written; shares are made to sum to 1.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is broken; the message names file and line.
    """
    graphemes: Graphemes = defaultdict(dict)
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("#") or tuple(cells) == HEADER:
            continue
        try:
            phone, letters, text = cells
            share = float(text)
        except ValueError:
            phone, letters, share = "", "", 0.0
        if phone not in PHONES or not letters or not 0 < share < math.inf:
            reason = f"{line[:40]!r} is broken; give a phone, letters and a share, separated by tabs"
            raise ValueError(f"{path}:{number}: {reason}")
        graphemes[phone][letters] = share
    return {phone: _normalised(shares) for phone, shares in graphemes.items()}


def rules_of(graphemes: Graphemes) -> Rules:
    """The rules that take letters for a phone, perhaps another phone for it, and write that.

    The formula is ours:

    P(b | a) = ERROR_RATE * sum over phones p, q of P(p | a) * M(q | p) * P(b | q),

    where M is proportional to exp(-distance / MISHEARING). All phones count the same in P(p | a).
    """
    costs = feature_costs()
    phones = list(graphemes)
    heard = {p: _normalised({q: math.exp(-costs[PHONE_IDS[p], PHONE_IDS[q]] / MISHEARING) for q in phones}) for p in phones}
    read: dict[str, dict[str, float]] = defaultdict(dict)
    for phone, shares in graphemes.items():
        for letters, share in shares.items():
            read[letters][phone] = share
    rules: Rules = {}
    for letters, of_letters in read.items():
        likely: dict[str, float] = defaultdict(float)
        for p, share in _normalised(of_letters).items():
            for q, mistaken in heard[p].items():
                for other, written in graphemes[q].items():
                    likely[other] += share * mistaken * written
        for other, probability in likely.items():
            cost = -math.log(ERROR_RATE * probability)
            if other != letters and cost <= DEAREST and len(letters) <= LONGEST >= len(other):
                rules[letters, other] = cost
    for letter in "bcdfglmnprstz":
        rules[letter, letter * 2] = min(DOUBLING, rules.get((letter, letter * 2), DEAREST))
        rules[letter * 2, letter] = min(HALVING, rules.get((letter * 2, letter), DEAREST))
    return rules


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {key: weight / total for key, weight in weights.items()}
