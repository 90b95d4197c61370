"""Measures the G2P model against a lexicon: how often it is right, and whether its probabilities can be trusted.

    python scripts/measure_g2p.py cmudict

A reading is right if the lexicon has it for the word; stress does not count. Prints Markdown.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from itertools import pairwise

import kaldialign
import numpy as np

from nemo_bias.command_line import command
from nemo_bias.pronunciation.g2p import NeuralG2P, Reading
from nemo_bias.pronunciation.lexicon import Lexicon
from nemo_bias.pronunciation.spelling import letter_names, must_be_spelled, spelled_share

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)  # of the probabilities that are shown together


@command
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 if the lexicon cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon", metavar="FILE", help="in CMUdict's format, or cmudict")
    parser.add_argument("--words", type=int, default=20_000, metavar="N", help="drawn at random; default: 20000")
    options = parser.parse_args(arguments)
    lexicon = Lexicon(options.lexicon)
    plain = [word for word in lexicon if word.isascii() and word.isalpha()]
    words = [word for word in plain if len(word) > 2]
    _show_accuracy(lexicon, random.Random(0).sample(words, min(options.words, len(words))))
    _show_spelled(lexicon, [word for word in plain if len(word) in (2, 3) and not must_be_spelled(word)])
    return 0


def _show_accuracy(lexicon: Lexicon, words: Sequence[str]) -> None:
    readings = NeuralG2P()(words)
    right = np.array([_is_right(lexicon, word, found[:1]) for word, found in zip(words, readings, strict=True)])
    either = np.mean([_is_right(lexicon, word, found) for word, found in zip(words, readings, strict=True)])
    errors = phones = 0
    for word, found in zip(words, readings, strict=True):
        closest = min(
            (kaldialign.edit_distance(list(known.phones), list(found[0].phones))["total"], len(known.phones))
            for known in lexicon.readings(word)
        )
        errors, phones = errors + closest[0], phones + closest[1]
    print(f"{len(words):,} words: first reading right {right.mean():.1%}, one of two {either:.1%}, ", end="")
    print(f"phone error rate of the first {errors / phones:.1%}\n")
    print("| probability of the first reading | words | mean | right |\n|---|---:|---:|---:|")
    probabilities = np.array([found[0].probability for found in readings])
    for low, high in pairwise(EDGES):
        inside = (probabilities > low) & (probabilities <= high)
        if inside.any():
            print(f"| {low}-{high} | {inside.sum():,} | {probabilities[inside].mean():.1%} | {right[inside].mean():.1%} |")


def _show_spelled(lexicon: Lexicon, words: Sequence[str]) -> None:
    unsure = [
        word
        for word, found in zip(words, NeuralG2P()(words), strict=True)
        if spelled_share(word, in_capitals=False, as_word=found[0].probability)
    ]
    spelled = sum(letter_names(word) in [known.phones for known in lexicon.readings(word)] for word in unsure)
    print(f"\nOf {len(unsure)} words of 2 or 3 letters of which the model is not sure, {spelled} are spelled out")


def _is_right(lexicon: Lexicon, word: str, found: Sequence[Reading]) -> bool:
    known = {reading.phones for reading in lexicon.readings(word)}
    return any(reading.phones in known for reading in found)


if __name__ == "__main__":
    sys.exit(main())
