"""Variations of speech: other paces, rooms and noises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter, resample_poly

SAMPLE_RATE = 16000  # Hz
PACES = ((1, 1), (10, 11), (10, 9))  # length of the audio, as a fraction of what it was

Audio = NDArray[np.float32]  # [samples]


def varied(audio: Audio, rng: np.random.Generator) -> Audio:
    """The audio at another pace (with its pitch), in a room (one in three), with noise (two in three), at random."""
    numerator, denominator = PACES[rng.integers(len(PACES))]
    if numerator != denominator:
        audio = np.asarray(resample_poly(audio, numerator, denominator), np.float32)
    if rng.random() < 1 / 3:
        audio = reverberated(audio, rng)
    if rng.random() < 2 / 3 and audio.any():
        audio = noisy(audio, rng)
    return audio


def reverberated(audio: Audio, rng: np.random.Generator) -> Audio:
    """The audio in a room: its impulse response is the direct sound and noise that decays exponentially."""
    decay = rng.uniform(0.1, 0.6)  # seconds for 60 dB
    seconds = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / decay)
    direct_to_reverberant = rng.uniform(0, 15)  # dB
    response *= 10 ** (-direct_to_reverberant / 20) / np.linalg.norm(response)
    response[0] = 1
    return np.asarray(fftconvolve(audio, response)[: len(audio)], np.float32)


def noisy(audio: Audio, rng: np.random.Generator) -> Audio:
    """The audio with noise between white and brown at a signal-to-noise ratio of 5 to 35 dB."""
    noise = lfilter([1.0], [1.0, -rng.uniform(0, 0.97)], rng.standard_normal(len(audio)))
    ratio = 10 ** (rng.uniform(5, 35) / 20)
    noise *= np.sqrt(np.mean(np.square(audio)) / np.mean(np.square(noise))) / ratio
    return np.asarray(audio + noise, np.float32)
