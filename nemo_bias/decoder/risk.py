"""How likely an entity must be to be written, by what would be lost if it is not what was said.

In place of wrong words a wrong entity does little harm, in place of right ones it does. The *risk* of an arc is the
probability that right words would be lost, supposed that it is not the entity: a logistic regression on `RISK_TERMS`, fitted
with the other weights of evidence. It is high where the recogniser is sure, and where ordinary words stand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RISK_TERMS = ("constant", "characters", "confidence", "common")  # of `probability.TERMS`; `common` of what is replaced
LEAST_ODDS, MOST_ODDS = 2 / 3, 2.0  # asked for where nothing is at risk, and where all is, times those of `min_probability`


def risks_of(terms: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] risks of arcs.

    Args:
        terms: [n, terms], of which `common` is that of what is replaced.
        weights: [terms] of the risk.
    """
    risks: NDArray[np.float32] = np.exp(-np.logaddexp(0, -(terms @ weights)))
    return risks


def log_odds_asked_for(min_probability: float, risk: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """[n] log-odds that arcs must have to be taken: the odds rise with the risk in a straight line.

    Args:
        min_probability: the decoding option, between 0 and 1.
        risk: [n] of the arcs, from 0 to 1.
    """
    odds = min_probability / (1 - min_probability) * (LEAST_ODDS + (MOST_ODDS - LEAST_ODDS) * np.asarray(risk, np.float32))
    asked: NDArray[np.float32] = np.log(odds).astype(np.float32)
    return asked
