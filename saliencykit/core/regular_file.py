"""Files that can be read to their end: no devices, pipes or sockets."""

import stat
from pathlib import Path

from saliencykit.core.errors import InputError

_SPECIAL = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def refuse_special_file(path: Path) -> None:
    """Refuse what never ends or waits for ever: it is not opened.

    Args:
        path: To a file, a folder or nothing, which all pass, as anything that is not local does.

    Raises:
        InputError: It is a device, a named pipe or a socket.

    Example:
        >>> refuse_special_file(Path("/dev/zero"))
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: '/dev/zero' is a device and not a file; write what it \
delivers to a file, and give that file's path.
    """
    if hasattr(path, "fs"):
        return
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # whoever opens it says why
        return
    for is_kind, kind in _SPECIAL.items():
        if is_kind(mode):
            raise InputError(
                f"{str(path)!r} is {kind} and not a file; write what it delivers to a file, and "
                "give that file's path."
            )
