"""How likely an entity must be to be written, by what would be lost if it is not what was said.

A wrong entity is a fault, and if right words are lost by it, that is another. So the odds that are asked for are those of
`min_probability` times 1 + *risk*: the probability that right words would be lost by an arc, supposed that it is not the
entity. It is a logistic regression on `STAKES` of `probability`, fitted with the other weights of evidence: high where the
recogniser is sure, and where ordinary words stand. It is 1 where nothing stands, as a word is one too many then, and 0 where
the recogniser writes the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.probability import probabilities


def risks_of(stakes: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] risks of arcs that replace other words.

    Args:
        stakes: [n, STAKES].
        weights: [STAKES] or [n, STAKES].
    """
    risks: NDArray[np.float32] = probabilities((stakes * weights).sum(axis=1))
    return risks


def log_odds_asked_for(min_probability: float, risk: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] log-odds that arcs must have to be taken.

    Args:
        min_probability: the decoding option, between 0 and 1.
        risk: [n] of the arcs, from 0 to 1.
    """
    least = math.log(min_probability) - math.log1p(-min_probability)
    return np.float32(least) + np.log1p(risk)
