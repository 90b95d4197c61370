"""Speech of one sentence: text to speech with a random pace, voice, loudness, room and noise."""

from __future__ import annotations

import functools
import importlib.util
import io
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from nemo_bias.adapter.augmentation import SAMPLE_RATE, Audio, noisy, reverberated
from nemo_bias.synthesis.sentences import SynthesisError, Utterance

SHORTEST, LONGEST = 0.8, 18.0  # seconds; speech outside of this is not kept


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken sentence.

    Attributes:
        samples: length at SAMPLE_RATE.
        flac: the audio as a FLAC file, mono with 16 bits; empty if it is too short or too long.
    """

    samples: int
    flac: bytes

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples / SAMPLE_RATE


def check_packages() -> None:
    """Raise ModuleNotFoundError if a package of the optional extra ``synthesis`` is missing."""
    missing = [name for name in ("hibari", "soxr") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'no package {" and ".join(missing)}; pip install "nemo_bias[synthesis]"')


def speak(utterance: Utterance, seed: int) -> Speech:
    """Speak a sentence, with a variation that depends on nothing but the utterance's number and the seed.

    Args:
        utterance: what is said.
        seed: decides, with the number, all that is random.

    Returns:
        The speech; without audio if it is shorter than SHORTEST or longer than LONGEST.

    Raises:
        SynthesisError: the text cannot be spoken.
    """
    rng = np.random.default_rng((seed, utterance.number))
    try:
        audio = _spoken(utterance.text, rng)
    except Exception as error:  # whatever the packages raise, the user needs to know for which sentence
        raise SynthesisError(f'"{utterance.text}" cannot be spoken ({error}); change or remove it') from error
    if not SHORTEST <= len(audio) / SAMPLE_RATE <= LONGEST:
        return Speech(len(audio), b"")
    if rng.random() < 0.5:
        audio = reverberated(audio, rng)
    if rng.random() < 0.8:
        audio = noisy(audio, rng)
    peak = 10 ** (rng.uniform(-20, -1) / 20)  # of full scale
    audio *= peak / np.abs(audio).max()
    file = io.BytesIO()
    soundfile.write(file, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return Speech(len(audio), file.getvalue())


def _spoken(text: str, rng: np.random.Generator) -> Audio:
    """The text in a voice of random pace and pitch. Resampling moves pitch and formants together: a crude other speaker."""
    import soxr

    foreign = sorted({c for c in text if c.isalpha() and "LATIN" not in unicodedata.name(c, "")})
    if foreign:  # the voice would leave these out
        raise ValueError(f"no Latin letters: {' '.join(foreign)}")
    if not any(c.isalnum() for c in text):
        raise ValueError("no letters")
    # The voice expects written English: a capital and a full stop give the sentence its melody.
    sentence = text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
    voice = _voice()
    audio = voice(sentence, speed=rng.uniform(0.8, 1.2), seed=int(rng.integers(2**31)))
    audio = soxr.resample(audio, voice.sample_rate, SAMPLE_RATE * rng.uniform(0.8, 1.18))
    if not len(audio) or not np.isfinite(audio).all() or not audio.any():
        raise ValueError("the voice is silent")
    return np.asarray(audio, np.float32)


@functools.cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)
