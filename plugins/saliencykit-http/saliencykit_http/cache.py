"""OutputCache: outputs on disk, so that no image is sent twice."""

import contextlib
import hashlib
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit import InputError

Array = np.ndarray[Any, np.dtype[Any]]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, row BLOB NOT NULL, sum BLOB NOT "
    "NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT NOT NULL)",
)
_KEYS_PER_QUERY = 500  # keys in one query: SQLite takes at least 999
_LOCK_TIMEOUT = 30  # seconds that a second process may hold the file


@final
class OutputCache:
    """A file of outputs, `DIRECTORY/outputs.sqlite`: plain numbers with a checksum; nothing is ever
    unpickled.

    A row that does not match its checksum is ignored; a damaged file is renamed and a new one is
    started. Several processes may use one directory at the same time.

    Args:
        directory: Created if it does not exist.

    Raises:
        InputError: The directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / "outputs.sqlite"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with self._open():
                pass
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the cache {str(directory)!r} cannot be used: {error}.") from error

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Array]:
        """The rows that are known, by key."""
        found = {}
        for first in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[first : first + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            for key, row, checksum in self._query(
                f"SELECT key, row, sum FROM answers WHERE key IN ({marks})", some
            ):
                numbers = _read(key, row, checksum)
                if numbers is not None:
                    found[key] = numbers
        return found

    def keep(self, rows: Mapping[bytes, Array]) -> None:
        """Write rows; they are on disk when this returns."""
        entries = [
            (key, blob, _checksum(key, blob))
            for key, row in rows.items()
            for blob in [_written(row)]
        ]
        try:
            with self._open() as file, file:
                file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", entries)
        except sqlite3.Error as error:  # a full disk, say: the outputs themselves are fine
            warnings.warn(f"outputs could not be written to {self.file}: {error}.", stacklevel=2)

    def note(self, name: str) -> str | None:
        """The text stored under a name, or None."""
        found = self._query("SELECT text FROM notes WHERE name = ?", [name])
        return str(found[0][0]) if found else None

    def keep_note(self, name: str, text: str) -> None:
        """Store a text under a name."""
        with contextlib.suppress(sqlite3.Error), self._open() as file, file:
            file.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, text))

    def _query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._open() as file:
                return file.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise InputError(
                    f"the cache {str(self.file)!r} cannot be read: {error}."
                ) from error
            self._rename_damaged()
            return []

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one use: so that threads and forked processes never share one."""
        try:
            file = self._connected()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._rename_damaged()
            file = self._connected()
        try:
            yield file
        finally:
            file.close()

    def _connected(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.file, timeout=_LOCK_TIMEOUT)
        try:
            file.execute("PRAGMA synchronous = NORMAL")
            for table in _TABLES:
                file.execute(table)
        except BaseException:
            file.close()
            raise
        return file

    def _rename_damaged(self) -> None:
        aside = self.file.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self.file.replace(aside)
            warnings.warn(
                f"{self.file} is damaged; it is now {aside.name}, and a new one is started.",
                stacklevel=3,
            )


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _written(row: Array) -> bytes:
    """One letter for the precision, then the numbers: four bytes each where that loses nothing."""
    single = row.astype("<f4")
    return (
        b"s" + single.tobytes()
        if np.array_equal(single.astype("<f8"), row)
        else b"d" + row.astype("<f8").tobytes()
    )


def _read(key: bytes, blob: Any, checksum: Any) -> Array | None:
    """The numbers of a row, or None if it is not as it was written."""
    if (
        not isinstance(blob, bytes)
        or checksum != _checksum(key, blob)
        or (len(blob) - 1) % (4 if blob[:1] == b"s" else 8)
    ):
        return None
    return np.frombuffer(blob[1:], "<f4" if blob[:1] == b"s" else "<f8").astype(np.float64)


def _checksum(key: bytes, blob: bytes) -> bytes:
    return hashlib.sha256(key + blob).digest()[:8]
