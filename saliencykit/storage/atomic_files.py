"""Files that survive a kill and a full disk: written beside their place, then moved into it."""

import os
import re
import shutil
import socket
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.locations import is_remote, remove_file, write_object

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_UNFINISHED = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)")
RESUMABLE = "Finished results are kept; the same call resumes from them."


def cannot_write(path: Path, error: OSError, advice: str = RESUMABLE) -> SaliencyKitError:
    """The error for a full disk, or a directory without write permission."""
    return SaliencyKitError(
        f"{path} cannot be written: {error.strerror or error}. {advice}".rstrip()
    )


def writable(directory: Path) -> None:
    """Make a directory and check that files can be written there, before minutes of work.

    Raises:
        InputError: They cannot.
    """
    try:
        if is_remote(directory):
            write_object(directory / ".writable", b"")
            remove_file(directory / ".writable")
            return
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise InputError(
            f"cannot write to {directory}: {reason}; choose another directory."
        ) from error


def refuse_links(*paths: Path) -> None:
    """Refuse links where a run is about to write: a file somewhere else would be changed.

    Args:
        paths: Files and folders inside a run directory, which may be a link itself.

    Raises:
        InputError: One of them is a link.
    """
    for path in paths:
        if not is_remote(path) and path.is_symlink():
            raise InputError(
                f"{path} is a link, and links are not followed when files are written; remove it, "
                "or choose another directory."
            )


def write_beside(path: Path, write: Callable[[Path], object], *, advice: str = RESUMABLE) -> None:
    """Write a file beside its place, and move it there when it is complete and on the disk.

    Args:
        path: Its place; the folder is made if needed.
        write: Writes to the path that it is given, or raises OSError.
        advice: The last sentence of the error.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    if is_remote(path):  # an object is there as a whole or not at all
        with tempfile.TemporaryDirectory() as folder:
            try:
                write(local := Path(folder) / path.name)
                write_object(path, local.read_bytes())
            except OSError as error:
                raise cannot_write(path, error, advice) from error
        return
    unfinished = beside(path)
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)  # a link there would lead elsewhere
        write(unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise cannot_write(path, error, advice) from error
    finally:
        with suppress(OSError):  # the parent may be a file
            unfinished.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Where this process writes a file or folder before it moves it to its place. What killed
    processes of this machine left of the same file is removed.

    Args:
        path: Its place.
    """
    with suppress(OSError):  # the folder is missing, or cannot be read
        for each in path.parent.iterdir():
            left = _UNFINISHED.fullmatch(each.name)
            if left is not None and left["name"] == path.name and _is_dead(left):
                _remove(each)
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}")


def _is_dead(left: re.Match[str]) -> bool:
    return left["host"] == _HOST and not _is_running(int(left["process"]))


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # another user's
    except OverflowError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path, *, of_all: bool = True) -> None:
    """Remove the incomplete files of killed processes.

    Args:
        folder: Searched with its subfolders.
        of_all: No other process may write there. False: only of processes of this machine that do
            not run.
    """
    for path in [] if is_remote(folder) else list(folder.rglob(".*")):
        left = _UNFINISHED.fullmatch(path.name)
        if left is not None and (of_all or _is_dead(left)):
            _remove(path)


def write_bytes(path: Path, content: bytes, *, advice: str = RESUMABLE) -> None:
    """Write a file beside and move it into place, see `write_beside`.

    Raises:
        SaliencyKitError: The disk is full, or the directory cannot be written.
    """
    write_beside(path, lambda beside: beside.write_bytes(content), advice=advice)


def write_text(path: Path, text: str, *, advice: str = RESUMABLE) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode(errors="replace"), advice=advice)
