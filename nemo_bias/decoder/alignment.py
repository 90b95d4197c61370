"""Where the tokens of a transcript lie in time."""

from __future__ import annotations

import numpy as np

from nemo_bias.compiled import njit
from nemo_bias.decoder.frames import NEVER

NEAR = 25  # frames


@njit
def align(log_probs, tokens, blank):  # type: ignore[no-untyped-def]
    """The most probable path that writes a token sequence: CTC forced alignment (Viterbi).

    Args:
        log_probs: [T, V] natural logarithms.
        tokens: [n] token ids; some path of T frames must write them.
        blank: id of the blank.

    Returns:
        [T] the path's label in each frame.
    """
    frames, states = len(log_probs), 2 * len(tokens) + 1
    score, following = np.full(states, NEVER, np.float64), np.full(states, NEVER, np.float64)
    steps = np.zeros((frames, states), np.int8)
    path = np.full(frames, blank, np.int32)
    for t in range(frames):
        for s in range(max(0, states - 2 * (frames - t)), min(states, 2 * t + 2)):
            label = tokens[s >> 1] if s & 1 else blank
            reach, step = (score[s], 0) if t > 0 else (0.0 if s < 2 else NEVER, 0)
            if t > 0 and s > 0 and score[s - 1] > reach:
                reach, step = score[s - 1], 1
            if t > 0 and s > 1 and s & 1 and tokens[s >> 1] != tokens[(s >> 1) - 1] and score[s - 2] > reach:
                reach, step = score[s - 2], 2
            following[s], steps[t, s] = max(np.float64(NEVER), reach + log_probs[t, label]), step
        score, following = following, score
        following[:] = NEVER
    state = states - 1
    if states > 1 and score[states - 2] > score[states - 1]:
        state = states - 2
    for t in range(frames - 1, -1, -1):
        path[t] = tokens[state >> 1] if state & 1 else blank
        state -= steps[t, state]
    return path


@njit
def align_near(log_probs, tokens, reached, blank):  # type: ignore[no-untyped-def]
    """As `align`, in time and memory linear in T, for tokens of which it is known about where they are.

    Args:
        log_probs: [T, V] natural logarithms.
        tokens: [n] token ids.
        reached: [n] a frame of each token, in some path; the best path is sought where each token is no farther from its
            frame than `NEAR` frames.
        blank: id of the blank.

    Returns:
        [T] the path's label in each frame.
    """
    frames, count = len(log_probs), len(tokens)
    width = 1
    low, high = np.empty(frames, np.int64), np.empty(frames, np.int64)  # states that are sought in each frame
    first = after = 0
    for t in range(frames):
        while first < count and reached[first] + NEAR < t:
            first += 1
        while after < count and reached[after] - NEAR <= t:
            after += 1
        low[t], high[t] = 2 * first, 2 * after + 1
        width = max(width, high[t] - low[t])
    score, following = np.full(width, NEVER, np.float64), np.full(width, NEVER, np.float64)
    steps = np.zeros((frames, width), np.int8)
    for t in range(frames):
        shift = low[t] - low[t - 1] if t > 0 else 0
        for k in range(high[t] - low[t]):
            s = low[t] + k
            label = tokens[s >> 1] if s & 1 else blank
            if t == 0:
                reach, step = (0.0 if s < 2 else NEVER), 0
            else:
                old = k + shift  # of the same state a frame before
                reach, step = (score[old] if old < width and s < high[t - 1] else NEVER), 0
                if old > 0 and s - 1 < high[t - 1] and score[old - 1] > reach:
                    reach, step = score[old - 1], 1
                skips = s > 1 and s & 1 and tokens[s >> 1] != tokens[(s >> 1) - 1]
                if skips and old > 1 and s - 2 < high[t - 1] and score[old - 2] > reach:
                    reach, step = score[old - 2], 2
            following[k], steps[t, k] = max(np.float64(NEVER), reach + log_probs[t, label]), step
        score, following = following, score
    path = np.full(frames, blank, np.int32)
    if frames == 0:
        return path
    state = 2 * count
    if count and score[state - 1 - low[-1]] > score[state - low[-1]]:
        state -= 1
    for t in range(frames - 1, -1, -1):
        path[t] = tokens[state >> 1] if state & 1 else blank
        state -= steps[t, state - low[t]]
    return path


@njit
def token_frames(path, tokens, blank):  # type: ignore[no-untyped-def]
    """First and last frame of each token of a path.

    Args:
        path: [T] the label of each frame.
        tokens: how many tokens the path writes.
        blank: id of the blank.

    Returns:
        First and last frames, [tokens] each.
    """
    starts, ends = np.zeros(tokens, np.int32), np.zeros(tokens, np.int32)
    k = -1
    for t in range(len(path)):
        if path[t] != blank:
            if t == 0 or path[t] != path[t - 1]:
                k += 1
                starts[k] = t
            ends[k] = t
    return starts, ends
