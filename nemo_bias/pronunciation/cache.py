"""Readings of the G2P model kept on disk, so that a list is pronounced once and not at every start."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from nemo_bias.pronunciation.g2p import Reading
from nemo_bias.pronunciation.phones import arpabet, read_arpabet

_LOG = logging.getLogger(__name__)
_CHUNK = 500  # words of a query
_WAIT_SECONDS = 5.0  # for another process that writes
_TABLE = (
    "CREATE TABLE IF NOT EXISTS readings (word TEXT, rank INTEGER, phones TEXT, probability REAL, PRIMARY KEY (word, rank)) "
    "WITHOUT ROWID"
)


class ReadingCache:
    """Readings of words in an SQLite file, which several processes may use at the same time.

    Where the file cannot be used, as in a read-only container, nothing is kept, and the log says so once.

    Args:
        version: of the model that made the readings; each has its own file.
        folder: None: ``nemo_bias`` in the user's cache folder, ``$XDG_CACHE_HOME`` or else ``~/.cache``.
    """

    def __init__(self, version: str, folder: Path | None = None) -> None:
        self._file_name = f"g2p-{version}.sqlite"
        self._folder = folder
        self._usable = True

    def read(self, words: Sequence[str]) -> dict[str, tuple[Reading, ...]]:
        """The readings of those words that are in the file, the best first."""
        found: dict[str, list[Reading]] = {}

        def select(connection: sqlite3.Connection) -> None:
            for first in range(0, len(words), _CHUNK):
                chunk = words[first : first + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT word, phones, probability FROM readings WHERE word IN ({marks}) ORDER BY word, rank"
                for word, phones, probability in connection.execute(query, chunk):
                    found.setdefault(word, []).append(Reading(read_arpabet(phones.split()), probability))

        if words:
            self._use(select)
        return {word: tuple(readings) for word, readings in found.items()}

    def write(self, readings: Mapping[str, Sequence[Reading]]) -> None:
        """Adds readings; those of a word that is in the file already stay."""
        rows = [
            (word, rank, arpabet(reading.phones), reading.probability)
            for word, of_word in readings.items()
            for rank, reading in enumerate(of_word)
        ]

        def insert(connection: sqlite3.Connection) -> None:
            with connection:  # one transaction
                connection.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?)", rows)

        self._use(insert)

    def _use(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Does something with the open file, unless that has failed before."""
        if not self._usable:
            return
        try:
            folder = self._folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nemo_bias"
            folder.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(folder / self._file_name, timeout=_WAIT_SECONDS)) as connection:
                connection.execute(_TABLE)
                action(connection)
        except (OSError, RuntimeError, sqlite3.Error, ValueError) as error:  # no home folder, or phones that are none
            self._usable = False
            _LOG.info("pronunciations are not kept on disk (%s), but computed at each start", error)
