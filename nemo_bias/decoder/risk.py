"""How likely an entity must be to be written, by what would be lost if it is not what was said.

In place of wrong words a wrong entity does little harm, in place of right ones it does. The *risk* of an arc is the
probability that right words would be lost, supposed that it is not the entity: a logistic regression on `STAKES` of
`probability`, fitted with the other weights of evidence. It is high where the recogniser is sure, and where ordinary words
stand. It is 1 where nothing stands, as a word is one too many then, and 0 where the recogniser writes the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.probability import probabilities

SWAY = 1.5  # the odds asked for are those of `min_probability`, by this where nothing is at risk, times this where all is


def risks_of(stakes: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] risks of arcs that replace other words.

    Args:
        stakes: [n, STAKES].
        weights: [STAKES] or [n, STAKES].
    """
    risks: NDArray[np.float32] = probabilities((stakes * weights).sum(axis=1))
    return risks


def log_odds_asked_for(min_probability: float, risk: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] log-odds that arcs must have to be taken: the odds rise with the risk in a straight line.

    Args:
        min_probability: the decoding option, between 0 and 1.
        risk: [n] of the arcs, from 0 to 1.
    """
    middle = np.float32(math.log(min_probability) - math.log1p(-min_probability))
    asked: NDArray[np.float32] = middle + np.log(np.float32(1 / SWAY) + np.float32(SWAY - 1 / SWAY) * risk)
    return asked
