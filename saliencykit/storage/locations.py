"""Locations: files and directories of this machine, and of `s3://`, `gs://`, `hf://`, `memory://`
and whatever else fsspec reads.

A remote location is used like a `pathlib.Path`. Its files are objects, which are read and written
whole: there is no append, no lock, and no rename.
"""

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, cast

from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.core.visible_text import first_line

Place: TypeAlias = str | os.PathLike[str]
# of C:/ and of texts like transformers:/home/model no protocol; addresses of http are for plugins
_REMOTE = re.compile(
    r"(?!https?:|file:)([a-z][a-z0-9]+):"
    r"(?://|(?<=s3:|gs:|hf:|az:)/|(?<=memory:)/)(?!/)"  # a Path has one slash
)
# else s3fs requests the size of each object before the object
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs"}


def location(place: Place) -> Path:
    """A path of this machine, or a remote one that has the methods of a path.

    Args:
        place: `run`, `~/run`, `s3://bucket/run`.

    Raises:
        InputError: The package that reads the protocol is missing.

    Example:
        >>> location("run"), str(location("memory://bucket") / "run")
        (PosixPath('run'), 'memory://bucket/run')
    """
    text = str(place)
    protocol = _REMOTE.match(text)
    if protocol is None:
        return Path(place).expanduser()
    upath = required("upath", repr(text), "remote")
    try:
        options = {"use_listings_cache": False} | _OPTIONS.get(protocol[1], {})
        path: Any = upath.UPath(f"{protocol[1]}://{text[protocol.end() :]}", **options)
        path.fs  # noqa: B018  # imports the package of the protocol
    except (ImportError, ValueError) as error:
        package = _PACKAGES.get(protocol[1])
        words = f"pip install {package}" if package else f"fsspec does not know it: {error}"
        raise InputError(f"{text!r} cannot be read: {words}.") from error
    except OSError as error:  # of a protocol that connects here
        raise InputError(f"{text!r} cannot be reached: {first_line(error)}.") from error
    return cast(Path, path)


def is_remote(place: object) -> bool:
    """Whether a path or its text is not of this machine."""
    if isinstance(place, str | os.PathLike):
        return _REMOTE.match(str(place)) is not None
    return hasattr(place, "protocol") and hasattr(place, "fs")


def read_bytes(path: Path) -> bytes:
    """The content of a file; of a remote one in one request.

    Raises:
        OSError: It cannot be read.
    """
    if not is_remote(path):
        return path.read_bytes()
    remote: Any = path
    with as_os_error():
        return cast(bytes, remote.fs.cat_file(remote.path))


def write_object(path: Path, content: bytes) -> None:
    """Write a remote file, in one request where the store can.

    Raises:
        OSError: It cannot be written.
    """
    remote: Any = path
    with as_os_error():
        remote.fs.pipe_file(remote.path, content)


class as_os_error:  # noqa: N801
    """In this block errors of a store's own package are OSErrors."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise OSError(0, f"{type(error).__name__}: {first_line(error)}") from error


def names_in(folder: Path) -> list[str]:
    """The names of the files and folders in a folder, by one listing; empty if there is none."""
    remote: Any = folder
    with suppress(FileNotFoundError, NotADirectoryError):
        if not is_remote(folder):
            return os.listdir(folder)
        with as_os_error():
            found = remote.fs.ls(remote.path, detail=False)
        return [PurePosixPath(name).name for name in found]
    return []


def remove_file(path: Path) -> None:
    """Delete a file, if there is one; a remote one by one request."""
    if not is_remote(path):
        path.unlink(missing_ok=True)
        return
    remote: Any = path
    with suppress(FileNotFoundError), as_os_error():
        remote.fs.rm_file(remote.path)


def files_below(folder: Path, *, recursive: bool) -> Iterator[tuple[Path, str | None]]:
    """The files in a folder, and of remote ones by what a change is noticed; by one listing.

    Args:
        folder: A folder.
        recursive: Include those in its subfolders.
    """
    if is_remote(folder):
        remote: Any = folder
        root = remote.path.rstrip("/") + "/"
        found = remote.fs.find(remote.path, maxdepth=None if recursive else 1, detail=True)
        for name, info in found.items():
            yield folder / name.removeprefix(root), "-".join(_facts(info))
        return
    for path in folder.rglob("*") if recursive else folder.iterdir():
        if path.is_file():
            yield path, None


def state_of_file(path: Path) -> tuple[str, str | None]:
    """By what a change of a file is noticed: facts that are read quickly, and a hash of the content
    where there is a quick one.

    Raises:
        OSError: There is no such file.
    """
    if not is_remote(path):
        facts = path.stat()
        return f"{facts.st_size}-{facts.st_mtime_ns}", None
    remote: Any = path
    with as_os_error():
        return _facts(remote.fs.info(remote.path))


def _facts(info: Mapping[str, Any]) -> tuple[str, str]:
    tag = info.get("ETag") or info.get("md5Hash") or info.get("created")
    return f"{info['size']}-0", re.sub(r"\W", "", str(tag))


def remove_tree(folder: Path) -> None:
    """Delete a folder with everything in it, if there is one."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    remote: Any = folder
    with suppress(FileNotFoundError), as_os_error():
        remote.fs.rm(remote.path, recursive=True)


def local_copy(place: Place) -> str:
    """A file on this machine: the file itself, or a copy of a remote one until the process ends.

    Args:
        place: Of a model's file, which libraries open themselves.

    Raises:
        InputError: It cannot be read.
    """
    if not is_remote(place):
        return str(place)
    path = location(place)
    copy = _copies() / f"{abs(hash(str(place))):x}" / path.name
    try:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(read_bytes(path))
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror or error}.") from error
    return str(copy)


@functools.cache
def _copies() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="saliencykit-"))
    atexit.register(remove_tree, folder)
    return folder
