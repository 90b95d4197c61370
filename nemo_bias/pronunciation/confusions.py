"""What a phone head confuses: costs for a phone distance, learned from what it hears where it is known what was said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.pronunciation.alignment import align_words
from nemo_bias.pronunciation.distance import feature_costs
from nemo_bias.pronunciation.heard import greedy_phones
from nemo_bias.pronunciation.phones import PHONES
from nemo_bias.pronunciation.pronouncer import Pronunciation

NAMES = (*PHONES, "-")
NOTHING = len(PHONES)  # the row of phones that are not heard, and the column of those that were not meant
PRIOR_COUNT = 20.0  # confusions of each phone that are made up, shared out by how alike phones are
PRIOR_SHARPNESS = 5.0  # the share of a phone falls by e to this with each unit of `feature_costs`


def count_confusions(
    log_probs: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
    pronounce: Callable[[Sequence[str]], Sequence[tuple[Pronunciation, ...]]],
) -> NDArray[np.int64]:
    """Counts what a phone head hears for what.

    Args:
        log_probs: [S, P + 1] of each utterance, natural logarithms, blank last.
        texts: what was said. Of a word's pronunciations, the one that fits best counts. Utterances with a word that has
            none, or with too few sub-frames, are left out.
        pronounce: gives the pronunciations of each of some words, as `Pronouncer.words` does.

    Returns:
        [40, 40] how often each phone (row) was heard where another (column) was meant; 39 stands for nothing.
    """
    words = sorted({word for text in texts for word in text.split()})
    variants = {word: [each.phones for each in own] for word, own in zip(words, pronounce(words), strict=True)}
    counts = np.zeros((NOTHING + 1, NOTHING + 1), np.int64)
    costs = feature_costs()
    for own, text in zip(log_probs, texts, strict=True):
        said = [variants[word] for word in text.split()]
        alignment = align_words(own, said, NOTHING) if all(said) else None
        if alignment is not None:
            meant = [phone for word, variant in zip(said, alignment.variant, strict=True) for phone in word[variant]]
            _count(greedy_phones(own, NOTHING)[0], np.array(meant, np.int32), costs, counts)
    return counts


def confusion_costs(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Costs of hearing one phone where another is meant.

    Of a phone m heard as h it is ``ln P(m | m) - ln P(h | m)``, and of a phone h heard for nothing ``ln P(nothing | nothing)
    - ln P(h | nothing)``, where nothing is meant once before each phone. They are smoothed by `PRIOR_COUNT`. Each cost is
    then averaged with that of the opposite confusion: a head drops more phones than it makes up, and cheap deletions would
    favour whatever is long. At last the costs are scaled so that those of nothing are those of `feature_costs`, on average:
    distances of both compare. The formula is ours.

    Args:
        counts: [40, 40] of `count_confusions`.

    Returns:
        [40, 40] symmetric, at least 0, and 0 on the diagonal; 39: nothing.

    Raises:
        ValueError: phones are more often not heard than heard as they are.
    """
    if counts[NOTHING].sum() > np.trace(counts):
        raise ValueError(
            "the head hears nothing where most phones are meant; check that the texts are those of its log-probs"
        )
    alike = feature_costs()
    prior = np.exp(-PRIOR_SHARPNESS * alike.astype(np.float64))
    smoothed = counts + PRIOR_COUNT * prior / prior.sum(axis=0)
    meant = counts[:, :NOTHING].sum()
    smoothed[NOTHING, NOTHING] = max(1.0, meant - counts[:NOTHING, NOTHING].sum())
    costs = np.maximum(0.0, np.log(np.diag(smoothed)) - np.log(smoothed))
    np.fill_diagonal(costs, 0.0)
    costs = (costs + costs.T) / 2
    scale = alike[NOTHING, :NOTHING].mean() / costs[NOTHING, :NOTHING].mean()
    scaled: NDArray[np.float32] = (scale * costs).astype(np.float32)
    return scaled


@numba.njit(cache=True, nogil=True)
def _count(heard, meant, costs, counts):  # type: ignore[no-untyped-def]
    """Aligns what was heard with what was meant at the least cost, and adds the pairs to the counts."""
    nothing = len(costs) - 1
    total = np.zeros((len(heard) + 1, len(meant) + 1))
    for i in range(len(heard) + 1):
        for j in range(len(meant) + 1):
            if i or j:
                total[i, j] = np.inf
            if i:
                total[i, j] = min(total[i, j], total[i - 1, j] + costs[heard[i - 1], nothing])
            if j:
                total[i, j] = min(total[i, j], total[i, j - 1] + costs[nothing, meant[j - 1]])
            if i and j:
                total[i, j] = min(total[i, j], total[i - 1, j - 1] + costs[heard[i - 1], meant[j - 1]])
    i, j = len(heard), len(meant)
    while i or j:
        if i and j and total[i, j] == total[i - 1, j - 1] + costs[heard[i - 1], meant[j - 1]]:
            i, j = i - 1, j - 1
            counts[heard[i], meant[j]] += 1
        elif i and total[i, j] == total[i - 1, j] + costs[heard[i - 1], nothing]:
            i -= 1
            counts[heard[i], nothing] += 1
        else:
            j -= 1
            counts[nothing, meant[j]] += 1


def confusions_markdown(counts: NDArray[np.int64], rows: int = 20) -> str:
    """Renders the commonest confusions as a Markdown table, without a newline at its end.

    Args:
        counts: [40, 40] of `count_confusions`.
        rows: of the table, at most.
    """
    meant = counts.sum(axis=0)
    confused = counts.copy()
    np.fill_diagonal(confused, 0)
    lines = ["| heard | meant | times | of meant |", "|---|---|---:|---:|"]
    for place in np.argsort(-confused, axis=None, kind="stable")[:rows].tolist():
        h, m = divmod(place, len(NAMES))
        if confused[h, m]:
            share = "-" if m == NOTHING else f"{100 * confused[h, m] / meant[m]:.1f} %"
            lines.append(f"| {NAMES[h]} | {NAMES[m]} | {confused[h, m]:,} | {share} |")
    return "\n".join(lines)


def write_costs(path: str | Path, costs: NDArray[np.float32]) -> None:
    """Writes costs [40, 40] as JSON: `heard`, for each phone (and "-") a row of the costs by what was meant.

    Raises:
        OSError: the file cannot be written.
    """
    rows = {h: {m: round(float(costs[i, j]), 3) for j, m in enumerate(NAMES)} for i, h in enumerate(NAMES)}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    Path(path).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def read_costs(path: str | Path) -> NDArray[np.float32]:
    """Reads costs [40, 40] that `write_costs` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else; the message names the file and the phone.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        costs = np.array([[float(content[heard][meant]) for meant in NAMES] for heard in NAMES], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no confusion costs ({error}); make them with scripts/learn_confusions.py") from error
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise ValueError(f"{path}: costs must be 0 or more; make them with scripts/learn_confusions.py")
    return costs
