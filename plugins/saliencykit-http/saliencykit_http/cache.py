"""AnswerCache: answers on disk, so that no picture is asked about twice."""

import contextlib
import hashlib
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from saliencykit import InputError

_TABLES = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, row BLOB NOT NULL, sum BLOB NOT "
    "NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT NOT NULL)",
)
_AT_ONCE = 500  # keys in one question: SQLite takes at least 999
_PATIENCE = 30  # seconds that a second process may hold the file


@final
class AnswerCache:
    """A file of answers, `FOLDER/answers.sqlite`: bare numbers with a checksum, nothing that is
    ever unpickled.

    A row that does not match its checksum is not there; a damaged file is put aside and begun anew.
    Several processes may use one folder at the same time.

    Args:
        folder: Made if it is not there.

    Raises:
        InputError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "answers.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._open():
                pass
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the cache {str(folder)!r} cannot be used: {error}.") from error

    def find(self, keys: Sequence[bytes]) -> "dict[bytes, np.ndarray[Any, np.dtype[Any]]]":
        """The rows that are known, by key."""
        found = {}
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, row, checksum in self._ask(
                f"SELECT key, row, sum FROM answers WHERE key IN ({marks})", some
            ):
                numbers = _read(key, row, checksum)
                if numbers is not None:
                    found[key] = numbers
        return found

    def keep(self, rows: "Mapping[bytes, np.ndarray[Any, np.dtype[Any]]]") -> None:
        """Write rows; each is there when this returns, whatever happens to the process then."""
        entries = [
            (key, blob, _checksum(key, blob))
            for key, row in rows.items()
            for blob in [_written(row)]
        ]
        try:
            with self._open() as file, file:
                file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", entries)
        except sqlite3.Error as error:  # a full disk, say: the answer itself is fine
            warnings.warn(f"answers could not be kept in {self.file}: {error}.", stacklevel=2)

    def note(self, name: str) -> str | None:
        """A text that was kept under a name."""
        found = self._ask("SELECT text FROM notes WHERE name = ?", [name])
        return str(found[0][0]) if found else None

    def keep_note(self, name: str, text: str) -> None:
        """Keep a text under a name."""
        with contextlib.suppress(sqlite3.Error), self._open() as file, file:
            file.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, text))

    def _ask(self, question: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._open() as file:
                return file.execute(question, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise InputError(
                    f"the cache {str(self.file)!r} cannot be read: {error}."
                ) from error
            self._put_aside()
            return []

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one use: so that threads and forked processes never share one."""
        try:
            file = self._connected()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._put_aside()
            file = self._connected()
        try:
            yield file
        finally:
            file.close()

    def _connected(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.file, timeout=_PATIENCE)
        try:
            file.execute("PRAGMA synchronous = NORMAL")
            for table in _TABLES:
                file.execute(table)
        except BaseException:
            file.close()
            raise
        return file

    def _put_aside(self) -> None:
        aside = self.file.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self.file.replace(aside)
            warnings.warn(
                f"{self.file} is damaged; it is now {aside.name}, and a new one is begun.",
                stacklevel=3,
            )


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _written(row: "np.ndarray[Any, np.dtype[Any]]") -> bytes:
    """One letter for the precision, then the numbers: four bytes each where that loses nothing."""
    single = row.astype("<f4")
    return (
        b"s" + single.tobytes()
        if np.array_equal(single.astype("<f8"), row)
        else b"d" + row.astype("<f8").tobytes()
    )


def _read(key: bytes, blob: Any, checksum: Any) -> "np.ndarray[Any, np.dtype[Any]] | None":
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
