"""The frames of utterances, and what the spotter and the beam search need to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit

NEVER = np.float32(-1e30)  # stands for a log-probability of -inf, which would make NaN of differences


class UtteranceFrames(NamedTuple):
    """The frames of one utterance.

    Attributes:
        log_probs: [T, V] natural logarithms, in which entities are looked for.
        best: [T] the highest of each frame.
        plain: [T, V] without the bias that an adapter gave `log_probs`; the same array if there is none.
        plain_best: [T] the highest of each frame.
        labels: [T] what is written without entities: the greedy path of `plain`, or that which a language model chose.
        phones: [T * sub_frames, phones + 1] log-probs of phones, the blank last; None if no phone head listened.
    """

    log_probs: NDArray[np.float32]
    best: NDArray[np.float32]
    plain: NDArray[np.float32]
    plain_best: NDArray[np.float32]
    labels: NDArray[np.int32]
    phones: NDArray[np.float32] | None = None


class BatchFrames(NamedTuple):
    """The frames of a batch, one utterance after the other; between them there may be others, of which nothing is known.

    Attributes:
        log_probs: [F, V] as those of `UtteranceFrames`, like all that follow.
        best: [F].
        plain: [F, V]; the same array if there is no bias.
        plain_best: [F].
        labels: [F].
        phones: [F * sub_frames, phones + 1], or None.
        bounds: [U, 2] the first frame of each utterance, and the frame after its last.
    """

    log_probs: NDArray[np.float32]
    best: NDArray[np.float32]
    plain: NDArray[np.float32]
    plain_best: NDArray[np.float32]
    labels: NDArray[np.int32]
    phones: NDArray[np.float32] | None
    bounds: NDArray[np.int64]

    @property
    def biased(self) -> bool:
        """Whether an adapter biased `log_probs`."""
        return self.plain is not self.log_probs

    @property
    def sub_frames(self) -> int:
        """Sub-frames of a frame, 0 without phones."""
        return 0 if self.phones is None else len(self.phones) // max(1, len(self.labels))

    def only(self, numbers: Sequence[int]) -> BatchFrames:
        """Some of the utterances, given by their rising numbers."""
        return self._replace(bounds=self.bounds[numbers])

    def utterance(self, number: int) -> UtteranceFrames:
        """The frames of one of the utterances."""
        start, end = self.bounds[number].tolist()
        log_probs = self.log_probs[start:end]
        return UtteranceFrames(
            log_probs,
            self.best[start:end],
            self.plain[start:end] if self.biased else log_probs,
            self.plain_best[start:end],
            self.labels[start:end],
            None if self.phones is None else self.phones[start * self.sub_frames : end * self.sub_frames],
        )


def best_labels(log_probs: NDArray[np.float32], bounds: NDArray[np.int64]) -> NDArray[np.int32]:
    """[F] the first best label of each frame of the utterances, 0 between them.

    Args:
        log_probs: [F, V].
        bounds: [U, 2] see `BatchFrames`.
    """
    labels = np.zeros(len(log_probs), np.int32)
    for start, end in bounds.tolist():
        if start < end:
            labels[start:end] = log_probs[start:end].argmax(axis=1)
    return labels


def whole(frames: int) -> NDArray[np.int64]:
    """[1, 2] the bounds of the only utterance in so many frames."""
    return np.array([[0, frames]])


@njit
def frames_of(bounds):  # type: ignore[no-untyped-def]
    """[n] the frames of all utterances of `BatchFrames.bounds`, and [n] whether each is the first of its utterance."""
    count = np.sum(bounds[:, 1] - bounds[:, 0])
    frames, opens = np.empty(count, np.int64), np.zeros(count, np.bool_)
    n = 0
    for u in range(len(bounds)):
        for t in range(bounds[u, 0], bounds[u, 1]):
            frames[n], opens[n] = t, t == bounds[u, 0]
            n += 1
    return frames, opens


class NearTokens(NamedTuple):
    """The tokens that are worth trying in each frame, best first; the blank is not among them.

    Attributes:
        tokens: [T, most] token ids; only the first ``counts[t]`` of row ``t`` count.
        counts: [T].
    """

    tokens: NDArray[np.int32]
    counts: NDArray[np.int32]


@njit
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
    near = np.empty(width, np.int32)
    for t in range(frames):
        counts[t] = near_tokens_of(log_probs[t], best[t], blank, margin, most, near)
        own = near[: counts[t]]
        tokens[t, : len(own)] = own[np.argsort(-log_probs[t][own], kind="mergesort")]
    return NearTokens(tokens, counts)


@njit
def near_tokens_of(row, top, blank, margin, most, near):  # type: ignore[no-untyped-def]
    """Finds the tokens of one frame that are worth trying, in the order of their ids.

    Args:
        row: [V] natural logarithms.
        top: the highest of them.
        blank: id of the blank.
        margin: nats.
        most: tokens wanted, of equal ones the first.
        near: [V] they are written here.

    Returns:
        How many there are.
    """
    limit = np.float32(max(top - margin, np.finfo(np.float32).min))  # a log-prob of -inf is never near
    count = 0
    for v in range(len(row)):  # without a branch, which the processor would guess wrongly
        near[count] = v
        count += (row[v] >= limit) & (v != blank)
    if count <= most:
        return count
    least = np.partition(row[near[:count]], count - most)[count - most]
    equal = most - np.sum(row[near[:count]] > least)
    kept = 0
    for v in near[:count]:
        if row[v] > least or (row[v] == least and equal > 0):
            equal -= row[v] == least
            near[kept] = v
            kept += 1
    return kept


@njit
def doubt(log_probs, best, near, blank):  # type: ignore[no-untyped-def]
    """How much a recogniser doubts what greedy decoding writes: the labels that it expects to be wrong, for each token.

    A measure of ours: the sum over all frames of 1 - P(best label), divided by the number of tokens.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest log-prob of each frame.
        near: the frames' `NearTokens`.
        blank: id of the blank.

    Returns:
        From 0, it is sure of all labels, to 1.
    """
    wrong, tokens, last = 0.0, 0, blank
    for t in range(len(best)):
        wrong += max(0.0, 1.0 - np.exp(best[t]))
        label = near.tokens[t, 0] if log_probs[t, blank] < best[t] else blank
        if label != blank and label != last:
            tokens += 1
        last = label
    return min(1.0, wrong / max(tokens, 1))
