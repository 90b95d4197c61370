"""How errors speak to users: one line that names what is wrong and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def suggestion(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """A question for the known word that is nearest, "" if none is near.

    Args:
        word: that is not known.
        known: words.
        least: similarity of a near word, from 0 to 1 (`difflib`).
    """
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower()[:40], by_lower, n=1, cutoff=least)
    return f', did you mean "{by_lower[near[0]]}"?' if near else ""


@contextmanager
def readable(use: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Within this context, a text file that cannot be read is an error that names the file and what it is for.

    Raises:
        ValueError: there is no such file, it may not be read, or it is not in UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{use} {path}: no text in UTF-8 ({error.reason}); save it as that") from error
    except OSError as error:
        raise ValueError(f"{use} {path} cannot be read: {error.strerror or error}; check the path") from error


def short(value: object) -> str:
    """A value as an error shows it: quoted, with escapes, and cut."""
    return ascii(str(value)[:40])


def one_line(error: BaseException) -> str:
    """An error's message in a line; that of a file that cannot be used names the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = {FileNotFoundError: "check the path", PermissionError: "check who may read and write it"}
        return f"{error.filename}: {error.strerror}; {advice.get(type(error), 'choose another file')}"
    return " ".join(str(error).split()) or type(error).__name__
