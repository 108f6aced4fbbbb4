"""A lock on a run directory: one launch at a time writes to it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import refuse_links, write_text
from saliencykit.storage.locations import is_remote, read_bytes, remove_file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the operating system releases it when the process ends, however it ends.

    `lock.json` beside it says who holds it. A lock that a killed process of this machine left is
    taken over. One that another machine left is refused: its process may still be running.

    Args:
        path: The lock file.

    Raises:
        InputError: Another process holds it, or the directory cannot be written.
    """
    if is_remote(path):
        with _marker(path.with_name(f"{path.name}.json")):
            yield
        return
    note, host = path.with_name(f"{path.name}.json"), socket.gethostname()
    refuse_links(path, note)
    try:
        held = FileLock(path, timeout=0).acquire()
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
    with held:
        owner = _owner(note)
        if owner.get("host", host) != host:
            raise InputError(
                f"process {owner.get('pid', '?')} on the machine {owner['host']} has not finished "
                f"with {path.parent}. If it no longer runs, delete {note} and start again; "
                "finished results are kept."
            )
        try:
            with suppress(OSError):  # a full disk: the lock holds all the same
                note.write_text(json.dumps({"pid": os.getpid(), "host": host}), encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                note.unlink()


@contextmanager
def _marker(note: Path) -> Iterator[None]:
    """A store has no locks: an object says who writes, and stays if the process is killed."""
    if owner := _owner(note):
        raise InputError(
            f"process {owner.get('pid', '?')} on {owner.get('host', '?')} is writing to "
            f"{note.parent}, or was killed. If it no longer runs, delete {note} and start again; "
            "finished results are kept."
        )
    write_text(note, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    try:
        yield
    finally:
        remove_file(note)


def _owner(note: Path) -> dict[str, str | int]:
    try:
        owner = json.loads(read_bytes(note))
    except (OSError, ValueError):  # none, or a part of one, of a killed process
        return {}
    return owner if isinstance(owner, dict) else {}
