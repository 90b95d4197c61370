"""Reads word language models: ARPA files and the binary files of KenLM."""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

ENDS = ("<s>", "</s>")
UNKNOWN_WORDS = ("<unk>", "<UNK>")
SUBWORD_MARKS = ("▁", "Ġ", "##")
LEAST_LETTERS = 2  # a model of characters has no longer words
_MAGIC = b"mmap lm http://kheafield.com/code"
_COUNTS_AT = 88 + 20  # of the order's byte in a binary file, and what follows it up to the counts
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


class LMFile(NamedTuple):
    """A language model as its file has it.

    Attributes:
        path: the file.
        model: the `kenlm.Model`.
        words: that it knows, in its own spelling, without marks of sentences and unknown words.
    """

    path: str
    model: Any
    words: tuple[str, ...]


@lru_cache(maxsize=2)
def read_lm(path: str) -> LMFile:
    """Reads a language model; the file itself is only read.

    Args:
        path: ARPA, also compressed, or KenLM binary, with its words (as `build_binary` writes it by default).

    Raises:
        ValueError: it cannot be used; the message names the file, what is wrong, and what to do.
    """
    try:
        import kenlm
    except ImportError as error:
        raise ValueError(f"lm_file {path} needs the package kenlm: pip install 'nemo_bias[lm]'") from error
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(len(_MAGIC))
        words = _binary_words(file) if head == _MAGIC else _arpa_words(file, head)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"lm_file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise ValueError(f"lm_file {path}: {error}") from error
    _refuse_other_units(path, words)
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        model = kenlm.Model(path, config)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        if "max" in reason.lower() and "order" in reason.lower():
            reason = "its n-grams are longer than the installed kenlm takes (6 words); make one of a lower order"
        raise ValueError(f"lm_file {path}: KenLM cannot load it: {reason}") from error
    missing = [word for word in words[:: max(1, len(words) // 100)] if word not in model]
    if missing:
        raise ValueError(f"lm_file {path}: KenLM does not find {missing[0]!r}, one of its words; make the file anew")
    return LMFile(path, model, words)


def _arpa_words(file: Path, head: bytes) -> tuple[str, ...]:
    """The unigrams of an ARPA file."""
    start = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), None)
    words, expected, inside = [], None, False
    with file.open("rb") if start is None else start(file) as stream:
        for number, line in enumerate(stream, 1):
            line = line.strip()
            if number > 1000 and expected is None:
                break
            if line.startswith(b"ngram 1="):
                expected = int(line[8:])
            elif line == b"\\1-grams:":
                inside = True
            elif inside and line.startswith(b"\\"):
                break
            elif inside and line:
                words.append(line.split(b"\t")[1].decode("utf-8") if line.count(b"\t") else "")
    if not inside or expected is None:
        raise ValueError("it is neither an ARPA file nor a binary file of KenLM")
    readable = len(words) - words.count("")
    if not readable == len(words) == expected:
        raise ValueError(f"it is broken: it has {readable} readable unigrams, and says that it has {expected}")
    return tuple(word for word in words if word not in (*ENDS, *UNKNOWN_WORDS))


def _binary_words(file: Path) -> tuple[str, ...]:
    """The words at the end of a binary file; each is followed by a zero byte, and the first is <unk>."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        count = struct.unpack_from("<Q", content, _COUNTS_AT)[0] if len(content) > _COUNTS_AT + 8 else 0
        start = content.rfind(b"<unk>\0")
        words = content[start:].split(b"\0") if start >= 0 else [b"-"]
    if not count or words.pop() != b"" or len(words) not in (count, count + 1):
        raise ValueError(
            "it has no list of its words, or is broken; make it anew with KenLM's build_binary, or use the ARPA file"
        )
    return tuple(word.decode("utf-8") for word in words[1:] if word.decode("utf-8") not in (*ENDS, *UNKNOWN_WORDS))


def _refuse_other_units(path: str, words: tuple[str, ...]) -> None:
    """Refuses models of characters and subwords."""
    if not words:
        raise ValueError(f"lm_file {path}: it knows no words")
    letters = max(map(len, words))
    marked = next((mark for mark in SUBWORD_MARKS if sum(mark in word for word in words) > len(words) / 20), None)
    if letters < LEAST_LETTERS or marked is not None:
        what = f"subwords, with {marked!r}" if marked else "single characters, or of subwords as NeMo's scripts code them"
        raise ValueError(f"lm_file {path}: it is a model of {what}; a model of words is needed")
