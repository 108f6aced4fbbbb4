"""One launch at a time writes a run directory."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from saliencykit.core.errors import InputError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: the operating system lets go of it when the process ends, however it ends.

    The file says who holds it. On this machine a lock whose process is gone is taken over; what
    another machine left there may be the trace of a killed run or of one that goes on, and is
    refused.

    Raises:
        InputError: Another process holds it.
    """
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write to {path.parent}: {error.strerror or error}; choose another directory."
        ) from error
    with file:
        held = _hold(file)
        owner = _owner(file)
        if not held:
            raise InputError(
                f"process {owner.get('pid', '?')} on {owner.get('host', '?')} is writing to "
                f"{path.parent}; wait until it is done, or choose another directory."
            )
        if owner and owner.get("host") != socket.gethostname():
            raise InputError(
                f"process {owner.get('pid', '?')} on the machine {owner.get('host', '?')} has not "
                f"finished with {path.parent}. If it no longer runs, delete {path} and start "
                "again; what it finished is kept."
            )
        try:
            with suppress(OSError):  # a full disk: the lock holds all the same
                _say(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            yield
        finally:
            with suppress(OSError):
                _say(file, "")


def _hold(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows locks a byte, here one that nobody writes
        import msvcrt

        file.seek(1 << 20)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (
        OSError
    ):  # a file system without locks: what the file says of this machine is all there is
        owner = _owner(file)
        return owner.get("host") != socket.gethostname() or not _alive(int(owner.get("pid", 0)))
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid > 0


def _owner(file: IO[str]) -> dict[str, str | int]:
    file.seek(0)
    try:
        owner = json.loads(file.read() or "{}")
    except ValueError:  # half of it, of a killed process
        return {}
    return owner if isinstance(owner, dict) else {}


def _say(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()
