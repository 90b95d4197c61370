"""How errors speak to users: one line that names what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str]) -> str:
    """A question for the known word that is nearest, "" if none is near."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower()[:40], by_lower, n=1)
    return f', did you mean "{by_lower[near[0]]}"?' if near else ""


def short(value: object) -> str:
    """A value as an error shows it: quoted, with escapes, and cut."""
    return ascii(str(value)[:40])


def one_line(error: BaseException) -> str:
    """An error's message in a line; that of a file that cannot be used names the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = {FileNotFoundError: "check the path", PermissionError: "check who may read and write it"}
        return f"{error.filename}: {error.strerror}; {advice.get(type(error), 'choose another file')}"
    return " ".join(str(error).split()) or type(error).__name__
