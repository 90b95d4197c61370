"""Writes accepted arcs into the greedy label path, and leaves everything else as it is."""

from __future__ import annotations

from nemo_bias.compiled import njit
from nemo_bias.decoder.evidence import settle, token_path, word_start_in


@njit
def rewrite(labels, log_probs, plain, best, words, arcs, places, chosen, blank, boundaries):  # type: ignore[no-untyped-def]
    """The label path with some arcs in the place of what they replace.

    Args:
        labels: [T] greedy path.
        log_probs: [T, V] in which the arcs were found.
        plain: [T, V] of the greedy path.
        best: [T] the highest of each frame of `plain`.
        words: of the greedy path.
        arcs: of `find_arcs`.
        places: of the arcs.
        chosen: arcs that do not overlap, in their order.
        blank: id of the blank.
        boundaries: of the vocabulary.

    Returns:
        [T] labels. Frames outside the words that the arcs replace are unchanged.
    """
    path = labels.copy()
    for n in range(len(chosen)):
        a = chosen[n]
        low, high, whole_high = places.low[a], places.high[a], places.whole_high[a]
        following = words.token[whole_high] if whole_high < len(words.token) else blank
        if n + 1 < len(chosen) and places.low[chosen[n + 1]] <= whole_high:
            whole_high = max(high, places.low[chosen[n + 1]])
            following = arcs.tokens[arcs.first_token[chosen[n + 1]]]
        last = arcs.tokens[arcs.first_token[a + 1] - 1]
        _, restart = settle(plain, best, words, high, whole_high, last, following, blank, boundaries)
        for k in range(low, min(restart + 1, whole_high)):
            path[words.token_start[k] : words.token_end[k] + 1] = blank
        if restart < whole_high:
            start = words.token_start[restart]
            before = last if restart == high else blank
            after = words.token[restart + 1] if restart + 1 < whole_high else following
            path[start] = word_start_in(plain, start, before, after, boundaries)
    for a in chosen:
        tokens = arcs.tokens[arcs.first_token[a] : arcs.first_token[a + 1]]
        path[arcs.start[a] : places.end[a] + 1] = token_path(log_probs, tokens, arcs.start[a], places.end[a], blank)
    return path
