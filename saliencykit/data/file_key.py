"""The key of an image file, by which a resumed run notices that the file was replaced."""

import hashlib
import os

from saliencykit.data.record import Record
from saliencykit.storage.locations import location, state_of_file

_MISSING = "missing"


def file_key(image: object) -> str | None:
    """Size in bytes, time of the last change in ns, and a hash of a file, `4711-170000-9f3c...`;
    `missing` if it cannot be read; None for anything that is not a path.

    Args:
        image: What a `Record` has.
    """
    if not isinstance(image, str | os.PathLike):
        return None
    try:
        path = location(image)
        facts, tag = state_of_file(path)
        if tag is not None:
            return f"{facts}-{tag}"
        if not path.is_file():  # a device would never end
            return _MISSING
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        return f"{facts}-{digest}"
    except (OSError, ValueError):  # a name may hold a null byte
        return _MISSING


def is_replaced(record: Record, key: str | None) -> bool:
    """Whether a file has another content than when it had this key.

    Where size and time are the same the content is not read: a million files are checked in
    seconds. Where they differ, as in a copy of the data, the hash decides.

    Args:
        record: The image; where its key was listed, nothing is requested.
        key: From `file_key`; None where it is unknown.
    """
    image = record.image
    if key is not None and record.file_key is not None:
        return record.file_key.rpartition("-")[2] != key.rpartition("-")[2]
    if key is None or not isinstance(image, str | os.PathLike):
        return False
    try:
        facts, tag = state_of_file(location(image))
        if tag is None and key.startswith(f"{facts}-"):
            return False
    except (OSError, ValueError):
        return False  # it has gone, and its result is still that of the file that was there
    return (file_key(image) or "").rpartition("-")[2] != key.rpartition("-")[2]
