"""Spool: a file that keeps some room back, so that what it holds can be closed properly when the
disk is full.
"""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import final

from saliencykit.core.errors import InputError

_BALLAST = 4 * 2**20  # bytes; an MP4 file ends in an index of some 20 bytes a frame
_FULL = (errno.ENOSPC, errno.EDQUOT)


@final
class ReserveFile:
    """A file beside its final place, and a second one whose room is given back when the disk is
    full.

    From then on `full` is True: whoever writes should come to an end within `left` bytes. `keep`
    moves the file to its place, `drop` removes it.

    Args:
        path: Where the file will be.
        ballast: Bytes kept back.

    Raises:
        InputError: Nothing can be written there.
    """

    def __init__(self, path: Path, ballast: int = _BALLAST) -> None:
        self.path, self.full, self.left = path, False, ballast
        self._ballast: Path | None = None
        try:
            handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
            self._part, self._file = Path(name), io.FileIO(handle, "r+b")
        except OSError as error:
            raise InputError(
                f"cannot write to {path.parent}: {error.strerror or error}; choose another place."
            ) from error
        try:
            self._ballast = self._part.with_name(self._part.name + ".room")
            with self._ballast.open("wb") as room:
                room.write(bytes(ballast))
        except OSError as error:
            self.drop()
            raise InputError(
                f"there is no room for a clip in {path.parent}: {error.strerror or error}."
            ) from error

    def write(self, data: bytes) -> int:
        """All of it, or an OSError."""
        rest = memoryview(data)
        self.left -= len(data) if self.full else 0
        while rest:
            try:
                rest = rest[self._file.write(rest) or 0 :]
            except OSError as error:
                if error.errno not in _FULL or self._ballast is None:
                    raise
                self.full = True
                self._release()
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of files."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of files."""
        return self._file.tell()

    def keep(self) -> None:
        """Close it and put it in its place, over what was there."""
        self._file.close()
        self._release()
        umask = os.umask(0)
        os.umask(umask)
        self._part.chmod(0o666 & ~umask)  # mkstemp's are for the owner only
        os.replace(self._part, self.path)

    def drop(self) -> None:
        """Close it and remove it; what was in its place stays."""
        self._file.close()
        self._release()
        self._part.unlink(missing_ok=True)

    def _release(self) -> None:
        if self._ballast is not None:
            self._ballast.unlink(missing_ok=True)
            self._ballast = None
