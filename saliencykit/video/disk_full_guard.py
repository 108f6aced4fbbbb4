"""ReserveFile: a file with reserved disk space, so that it can be closed on a full disk."""

import errno
import io
import os
from pathlib import Path
from typing import final

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import beside

_RESERVE = 4 * 2**20  # bytes; an MP4 file ends in an index of about 20 bytes per frame
_FULL = (errno.ENOSPC, errno.EDQUOT)


@final
class ReserveFile:
    """A temporary file, and a second one that reserves space and is deleted when the disk is full.

    From then on `full` is True, and the writer should finish within `left` bytes. `keep` moves the
    file to its final path, `drop` deletes it.

    Args:
        path: The final path.
        reserve: Bytes reserved.

    Raises:
        InputError: Nothing can be written there.
    """

    def __init__(self, path: Path, reserve: int = _RESERVE) -> None:
        self.path, self.full, self.left = path, False, reserve
        self._reserved: Path | None = None
        try:
            self._part = beside(path)
            self._file = io.FileIO(self._part, "x+b")
        except OSError as error:
            raise InputError(
                f"cannot write to {path.parent}: {error.strerror or error}; choose another "
                "directory."
            ) from error
        try:
            self._reserved = beside(path.with_name(f"{path.name}.reserve"))
            with self._reserved.open("wb") as room:
                room.write(bytes(reserve))
        except OSError as error:
            self.drop()
            raise InputError(
                f"there is no space for a video in {path.parent}: {error.strerror or error}."
            ) from error

    def write(self, data: bytes) -> int:
        """Write all of it, or raise OSError."""
        rest = memoryview(data)
        self.left -= len(data) if self.full else 0
        while rest:
            try:
                rest = rest[self._file.write(rest) or 0 :]
            except OSError as error:
                if error.errno not in _FULL or self._reserved is None:
                    raise
                self.full = True
                self._release()
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As for files."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As for files."""
        return self._file.tell()

    def keep(self) -> None:
        """Close it and move it to its path, replacing an existing file."""
        self._file.close()
        self._release()
        os.replace(self._part, self.path)

    def drop(self) -> None:
        """Close and delete it; an existing file at its path stays."""
        self._file.close()
        self._release()
        self._part.unlink(missing_ok=True)

    def _release(self) -> None:
        if self._reserved is not None:
            self._reserved.unlink(missing_ok=True)
            self._reserved = None
