"""How fast decoders are, and how much memory ours takes for a long utterance. Times are CPU seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import LogProbs


def median_seconds(runs: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median CPU time of each run.

    They take turns, so that what else the machine does slows all of them alike. Each turn is two runs, of which the second
    is timed: then what the others have pushed out of memory is back.

    Args:
        runs: what to time.
        repeats: timed rounds.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in tqdm(range(repeats), desc="decoding", unit="round"):
        for times, run in zip(seconds, runs, strict=True):
            run()
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


@dataclass(frozen=True)
class LengthTiming:
    """What decoding one utterance takes.

    Attributes:
        frames: its length.
        seconds_per_thousand_frames: CPU time.
        extra_bytes: peak memory beyond what the process held before, the log-probs included; None if not measured.
    """

    frames: int
    seconds_per_thousand_frames: float
    extra_bytes: int | None = None


def length_timings(
    vocabulary: Vocabulary, phrases: Sequence[str], block: LogProbs, copies: int, repeats: int
) -> tuple[LengthTiming, LengthTiming]:
    """Decodes a short and a long utterance of the same frames, in a process of its own.

    Args:
        vocabulary: the model's tokens.
        phrases: the list.
        block: [T, V] the short one.
        copies: the long one repeats it so often.
        repeats: runs of the short one, of which the median counts; the long one is decoded once.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_length_timings, vocabulary, phrases, block, copies, repeats).result()


def _length_timings(
    vocabulary: Vocabulary, phrases: Sequence[str], block: LogProbs, copies: int, repeats: int
) -> tuple[LengthTiming, LengthTiming]:
    search = BiasedBeamSearch(vocabulary, threads=1)
    entities = search.compile(phrases)
    long = np.tile(block, (copies, 1))
    (short_seconds,) = median_seconds([lambda: search.decode(block[None], None, entities)], repeats)
    held = _memory("VmRSS")
    start = time.process_time()
    search.decode(long[None], None, entities)
    long_seconds = time.process_time() - start
    extra = _memory("VmHWM") - held
    return (
        LengthTiming(len(block), 1000 * short_seconds / len(block)),
        LengthTiming(len(long), 1000 * long_seconds / len(long), extra),
    )


def _memory(field: str) -> int:
    """A field of Linux's /proc/self/status, in bytes; `getrusage` gives a new process its parent's peak, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
