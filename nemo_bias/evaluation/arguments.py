"""Arguments that the scripts of an evaluation share: the data, and the lists that are made of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_bias.evaluation.comparison import unspoken

SIZES = (100, 1000, 10000)  # of lists, in distractors


def add_audio_argument(parser: argparse.ArgumentParser) -> None:
    """`--audio-dir`; see `audio_dir_of`."""
    parser.add_argument(
        "--audio-dir", type=Path, metavar="D", help="where relative audio paths start; default: the manifest's folder"
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """`--distractors`, `--audio-dir` and `--sources`."""
    parser.add_argument("--distractors", required=True, type=Path, metavar="FILE", help="one phrase a line, in fixed order")
    add_audio_argument(parser)
    parser.add_argument(
        "--sources", type=names, metavar="A,B", help="measure apart what lies in these folders; default: all as one"
    )


def add_sizes_argument(parser: argparse.ArgumentParser) -> None:
    """`--sizes`; see `sizes_of`."""
    shown = ",".join(map(str, SIZES))
    parser.add_argument(
        "--sizes", type=numbers, metavar="N,N", help=f"distractors; default: {shown}, as far as there are enough"
    )


def audio_dir_of(options: argparse.Namespace, manifest: Path) -> Path:
    """Where the relative audio paths of a manifest start."""
    folder: Path = options.audio_dir or manifest.parent
    return folder


def sizes_of(
    options: argparse.Namespace, sets: Iterable[Sequence[Mapping[str, Any]]], distractors: Sequence[str]
) -> list[int]:
    """The sizes of lists that were asked for; by default those of `SIZES` that there are enough distractors for.

    Args:
        options: with `sizes`.
        sets: manifest items that each list is for.
        distractors: phrases.

    Raises:
        ValueError: no distractor can be used.
    """
    if options.sizes is not None:
        return list(options.sizes)
    most = min(len(unspoken(items, distractors)) for items in sets)
    if not most:
        raise ValueError(f"{options.distractors}: each phrase shares a word with a reference; give others")
    sizes = [size for size in SIZES if size <= most] or [most]
    if len(sizes) < len(SIZES):
        lists = f"lists of {' and '.join(map(str, sizes))}"
        print(f"{options.distractors}: {most} phrases share no word with a reference, so {lists}", file=sys.stderr)
    return sizes


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(number) for number in names(text)]
