"""A lock on a run directory: one launch at a time writes to it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.atomic_files import refuse_links, write_text
from saliencykit.storage.locations import is_remote, read_bytes, remove_file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the operating system releases it when the process ends, however it ends.

    `lock.json` beside it says who holds it. A lock that a killed process of this machine left is
    taken over. One that another machine left is refused, because its process may still be running,
    and so is every one on a store, which has no locks of its own.

    Args:
        path: The lock file.

    Raises:
        InputError: Another process holds it, or the directory cannot be written.
    """
    note, remote = path.with_name(f"{path.name}.json"), is_remote(path)
    with nullcontext() if remote else _file_lock(path, note):
        owner, host = _owner(note), socket.gethostname()
        if owner and (remote or owner.get("host", host) != host):
            raise InputError(
                f"process {owner.get('pid', '?')} on the machine {owner.get('host', '?')} is "
                f"writing to {path.parent}, or was killed. If it no longer runs, delete {note} and "
                "start again; finished results are kept."
            )
        # a full disk: the lock holds all the same
        with nullcontext() if remote else suppress(SaliencyKitError):
            write_text(note, json.dumps({"pid": os.getpid(), "host": host}))
        try:
            yield
        finally:
            with suppress(OSError):
                remove_file(note)


def _file_lock(path: Path, note: Path) -> AbstractContextManager[object]:
    refuse_links(path, note)
    try:
        return FileLock(path, timeout=0).acquire()
    except Timeout:
        owner = _owner(note)
        raise InputError(
            f"process {owner.get('pid', '?')} on {owner.get('host', '?')} is writing to "
            f"{path.parent}; wait until it is done, or choose another directory."
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot write to {path.parent}: {error.strerror or error}; choose another directory."
        ) from error


def _owner(note: Path) -> dict[str, str | int]:
    try:
        owner = json.loads(read_bytes(note))
    except (OSError, ValueError):  # none, or a part of one, of a killed process
        return {}
    return owner if isinstance(owner, dict) else {}
