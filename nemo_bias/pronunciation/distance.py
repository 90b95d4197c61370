"""How unlike two pronunciations sound: an edit distance whose costs follow from phonetic features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.pronunciation.phones import PHONES

# Consonants: place (lips 0 to glottis 5), manner, voiced.
_CONSONANTS = {
    **{"P": (0.0, "stop", 0), "B": (0.0, "stop", 1), "T": (2.0, "stop", 0), "D": (2.0, "stop", 1), "K": (4.0, "stop", 0)},
    **{"G": (4.0, "stop", 1), "CH": (3.0, "affricate", 0), "JH": (3.0, "affricate", 1), "F": (0.5, "fricative", 0)},
    **{"V": (0.5, "fricative", 1), "TH": (1.5, "fricative", 0), "DH": (1.5, "fricative", 1), "S": (2.0, "fricative", 0)},
    **{"Z": (2.0, "fricative", 1), "SH": (3.0, "fricative", 0), "ZH": (3.0, "fricative", 1), "HH": (5.0, "fricative", 0)},
    **{"M": (0.0, "nasal", 1), "N": (2.0, "nasal", 1), "NG": (4.0, "nasal", 1), "L": (2.0, "liquid", 1)},
    **{"R": (2.5, "liquid", 1), "Y": (3.5, "glide", 1), "W": (0.5, "glide", 1)},
}
# Vowels: height and backness at the start and at the end, from 0 (open, front) to 1 (close, back).
_VOWELS = {
    **{"IY": (1.0, 0.0, 1.0, 0.0), "IH": (0.8, 0.2, 0.8, 0.2), "EH": (0.45, 0.1, 0.45, 0.1), "AE": (0.15, 0.1, 0.15, 0.1)},
    **{"AA": (0.0, 0.8, 0.0, 0.8), "AO": (0.3, 1.0, 0.3, 1.0), "UH": (0.8, 0.8, 0.8, 0.8), "UW": (1.0, 0.9, 1.0, 0.9)},
    **{"AH": (0.4, 0.5, 0.4, 0.5), "ER": (0.5, 0.45, 0.5, 0.45), "EY": (0.6, 0.0, 0.9, 0.1), "AY": (0.0, 0.5, 0.9, 0.1)},
    **{"OY": (0.4, 1.0, 0.9, 0.1), "AW": (0.0, 0.5, 0.9, 0.9), "OW": (0.6, 0.9, 0.9, 0.9)},
}
_MANNERS = {  # cost between manners
    frozenset(pair): cost
    for *pair, cost in (
        *(("stop", "affricate", 0.3), ("stop", "fricative", 0.4), ("affricate", "fricative", 0.25), ("stop", "nasal", 0.5)),
        *(("fricative", "nasal", 0.6), ("affricate", "nasal", 0.6), ("nasal", "liquid", 0.5), ("liquid", "glide", 0.3)),
        *(("nasal", "glide", 0.6), ("stop", "liquid", 0.6), ("fricative", "liquid", 0.6), ("affricate", "liquid", 0.6)),
        *(("stop", "glide", 0.7), ("fricative", "glide", 0.6), ("affricate", "glide", 0.6)),
    )
}
_VOICING, _PLACE = 0.2, 0.15  # place: a step of 1
_RHOTIC = 0.25  # ER beside another vowel
_LIKE_A_VOWEL = {("Y", "IY"): 0.3, ("Y", "IH"): 0.4, ("W", "UW"): 0.3, ("W", "UH"): 0.4, ("R", "ER"): 0.3, ("W", "OW"): 0.5}
_VOWEL_CONSONANT = 1.2
_GAP = 0.7
COST_UNIT = 1 / 128  # costs are multiples of it, so sums of them are exact
_WEAK_GAPS = {"AH": 0.5, "IH": 0.6, "HH": 0.5, "T": 0.6, "D": 0.6, "R": 0.6, "Y": 0.5, "W": 0.6}


def feature_costs() -> NDArray[np.float32]:
    """Costs [40, 40] of taking one phone for another; row and column 39 are insertion and deletion.

    Ours: symmetric, 0 on the diagonal, about 0.1-0.4 for neighbours (voicing pairs, near vowels), 1.2 for a vowel against
    a consonant that is not its glide.
    """
    size = len(PHONES)
    costs = np.zeros((size + 1, size + 1), np.float32)
    for i, a in enumerate(PHONES):
        costs[i, size] = costs[size, i] = _WEAK_GAPS.get(a, _GAP)
        for j, b in enumerate(PHONES):
            if i != j:
                costs[i, j] = _substitution(a, b)
    rounded: NDArray[np.float32] = np.rint(costs / np.float32(COST_UNIT)) * np.float32(COST_UNIT)
    return rounded


def _substitution(a: str, b: str) -> float:
    if a in _VOWELS and b in _VOWELS:
        movement = np.subtract(_VOWELS[a], _VOWELS[b])
        unlike = float(np.sqrt(np.mean(movement**2)))
        return min(1.0, 0.1 + unlike + (_RHOTIC if "ER" in (a, b) else 0.0))
    if a in _CONSONANTS and b in _CONSONANTS:
        (place, manner, voiced), (other_place, other_manner, other_voiced) = _CONSONANTS[a], _CONSONANTS[b]
        of_manner = 0.0 if manner == other_manner else _MANNERS[frozenset((manner, other_manner))]
        return min(1.0, _VOICING * (voiced != other_voiced) + _PLACE * abs(place - other_place) + of_manner)
    return _LIKE_A_VOWEL.get((a, b), _LIKE_A_VOWEL.get((b, a), _VOWEL_CONSONANT))


def packed(arrays: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Arrays of phones one after the other, and [arrays + 1] where each begins."""
    first = np.fromiter(accumulate(map(len, arrays), initial=0), np.int32, len(arrays) + 1)
    return (np.concatenate(arrays) if arrays else np.zeros(0, np.int32)), first


@njit
def phone_distance(a: NDArray[np.int32], b: NDArray[np.int32], costs: NDArray[np.float32]) -> float:
    """The least cost of turning one pronunciation into the other, by the length of the longer.

    Args:
        a: ids of phones [N], of any integer type.
        b: ids of phones [M].
        costs: [40, 40], see `feature_costs`.

    Returns:
        0 for equal ones, and about 1 for unlike ones; 0 if both are empty.
    """
    gap = costs.shape[0] - 1
    row = np.zeros(len(b) + 1)
    for j in range(len(b)):
        row[j + 1] = row[j] + costs[gap, b[j]]
    for i in range(len(a)):
        diagonal = row[0]
        row[0] += costs[a[i], gap]
        for j in range(len(b)):
            best = min(diagonal + costs[a[i], b[j]], row[j + 1] + costs[a[i], gap], row[j] + costs[gap, b[j]])
            diagonal = row[j + 1]
            row[j + 1] = best
    return float(row[len(b)] / max(len(a), len(b), 1))
