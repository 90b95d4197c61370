import time

import numpy as np
from conftest import random_log_probs

from nemo_bias.evaluation.speed import _memory, length_timings, median_seconds


def test_runs_take_turns_of_two_and_the_second_counts(monkeypatch):
    order = []
    durations = iter([9.0, 1.0, 9.0, 2.0, 9.0, 5.0, 9.0, 2.0, 9.0, 3.0, 9.0, 8.0])  # of two, in three rounds
    clock = [0.0]

    def run(name):
        order.append(name)
        clock[0] += next(durations)

    monkeypatch.setattr("time.process_time", lambda: clock[0])
    assert median_seconds([lambda: run("a"), lambda: run("b")], 3) == [3.0, 2.0]
    assert order == ["a", "a", "b", "b"] * 3


def test_a_short_and_a_long_utterance(characters):
    block = random_log_probs(np.random.default_rng(0), 50, characters.size)
    short, long = length_timings(characters, ["bar", "rost on"], block, copies=20, repeats=1)
    assert (short.frames, long.frames) == (50, 1000)
    assert short.extra_bytes is None and long.extra_bytes >= 0
    assert short.seconds_per_thousand_frames > 0 and long.seconds_per_thousand_frames > 0


def test_memory_held_and_its_peak():
    held, size = _memory("VmRSS"), 100_000_000
    array = np.ones(size, np.int8)
    _wait_until(lambda: _memory("VmRSS") > held + 0.9 * size)
    del array
    _wait_until(lambda: _memory("VmRSS") < held + 0.1 * size)
    assert _memory("VmHWM") > held + 0.9 * size


def _wait_until(holds):
    """Some kernels bring these figures up to date only from time to time."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
