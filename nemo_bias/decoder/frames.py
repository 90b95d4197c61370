"""What both the spotter and the beam search need to know of each frame."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

NEVER = np.float32(-1e30)  # stands for a log-probability of -inf, which would make NaN of differences


class NearTokens(NamedTuple):
    """The tokens that are worth trying in each frame, best first; the blank is not among them.

    Attributes:
        tokens: [T, most] token ids; only the first ``counts[t]`` of row ``t`` count.
        counts: [T].
    """

    tokens: NDArray[np.int32]
    counts: NDArray[np.int32]


@numba.njit(cache=True, nogil=True)
def near_tokens(log_probs, best, blank, margin, most):  # type: ignore[no-untyped-def]
    """Finds the tokens within `margin` nats of each frame's best, at most `most` of them.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest log-prob of each frame.
        blank: id of the blank.
        margin: nats.
        most: tokens kept of a frame.

    Returns:
        A `NearTokens`.
    """
    frames, width = log_probs.shape
    tokens, counts = np.empty((frames, min(most, width)), np.int32), np.zeros(frames, np.int32)
    lowest = np.finfo(np.float32).min  # a log-prob of -inf is never near
    for t in range(frames):
        row, near, count = log_probs[t], tokens[t], 0
        limit = max(best[t] - margin, lowest)
        for v in range(width):
            if row[v] >= limit and v != blank:
                if count == len(near):
                    count -= 1
                k = count
                while k > 0 and row[near[k - 1]] < row[v]:
                    near[k] = near[k - 1]
                    k -= 1
                near[k] = v
                count += 1
                if count == len(near):
                    limit = row[near[count - 1]]
        counts[t] = count
    return NearTokens(tokens, counts)
