"""Pronunciations of the G2P model kept on disk, so that a list is pronounced once and not at every start."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from nemo_bias.pronunciation.g2p import Reading
from nemo_bias.pronunciation.phones import arpabet, read_arpabet

_LOG = logging.getLogger(__name__)
_CHUNK = 500  # words of a query
_WAIT_SECONDS = 5.0  # for another process that writes


class ReadingCache:
    """Readings of words in an SQLite file; where that cannot be read or written, nothing is kept, and the log says so once.

    Several processes may use the file at the same time.

    Args:
        version: of the model that made the readings; each has its own file.
        folder: None: `cache_folder`.
    """

    def __init__(self, version: str, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder()) / f"g2p-{version}.sqlite"
        self._usable = True

    def read(self, words: Sequence[str]) -> dict[str, tuple[Reading, ...]]:
        """The readings of those words that are in the file."""
        found: dict[str, list[Reading]] = {}
        with self._connection() as connection:
            if connection is None:
                return {}
            for first in range(0, len(words), _CHUNK):
                chunk = words[first : first + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT word, phones, probability FROM readings WHERE word IN ({marks}) ORDER BY word, rank"
                for word, phones, probability in connection.execute(query, chunk):
                    found.setdefault(word, []).append(Reading(read_arpabet(phones.split()), probability))
            return {word: tuple(readings) for word, readings in found.items()}
        return {}

    def write(self, readings: Mapping[str, Sequence[Reading]]) -> None:
        """Adds readings; those of a word that is in the file already stay."""
        rows = [
            (word, rank, arpabet(reading.phones), reading.probability)
            for word, of_word in readings.items()
            for rank, reading in enumerate(of_word)
        ]
        with self._connection() as connection:
            if connection is not None:
                connection.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?)", rows)
                connection.commit()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        """The open file, or None where it cannot be used; an error in the block ends its use."""
        if not self._usable:
            yield None
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS readings (word TEXT, rank INTEGER, phones TEXT, probability REAL, "
                    "PRIMARY KEY (word, rank)) WITHOUT ROWID"
                )
                yield connection
        except (OSError, sqlite3.Error, ValueError) as error:
            self._usable = False
            _LOG.info("pronunciations are not kept in %s (%s); they are computed again at each start", self.path, error)


def cache_folder() -> Path:
    """``nemo_bias`` in the user's cache folder: ``$XDG_CACHE_HOME``, or ``~/.cache`` if that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nemo_bias"
