"""HashChain: the SHA-256 of every file of a directory, each linked to the one before it.

    link_0 = sha256(facts),   link_i = sha256(link_(i-1), name_i, bytes_i, sha256_i)

The last link is the seal: one number that changes with any fact, file, name or order. It shows what
changed since it was written down somewhere else; whoever can write to the directory can also write
a new chain.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from saliencykit.core.errors import InputError
from saliencykit.storage.typed_json import Count

Digest: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Link(Struct, frozen=True):
    """A file of the directory: its path inside, its size in bytes, its SHA-256, and the chain up to
    it.
    """

    name: str
    bytes: Count
    sha256: Digest
    link: Digest


def chain(directory: Path, facts: Any, *, leave_out: Sequence[str]) -> list[Link]:
    """The chain of a directory, files in the order of their names.

    Args:
        directory: Searched with its subfolders. Hidden files are left out.
        facts: JSON types; the chain starts with them.
        leave_out: Names of files at the top that do not belong to it.

    Raises:
        InputError: A file cannot be read, or is a link.
    """
    links: list[Link] = []
    before = first_link(facts)
    for path in _files(directory, leave_out):
        name = path.relative_to(directory).as_posix()
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        before = next_link(before, name, size, digest)
        links.append(Link(name, size, digest, before))
    return links


def first_link(facts: Any) -> str:
    """The link that stands for the facts."""
    return _hash(facts)


def next_link(before: str, name: str, size: int, digest: str) -> str:
    """The link of a file, given the one before it."""
    return _hash([before, name, size, digest])


def differences(recorded: Sequence[Link], facts: Any, now: Sequence[Link]) -> list[str]:
    """What is not as it was recorded, one line each; empty if all is.

    Args:
        recorded: The chain of the record.
        facts: The facts of the record.
        now: The chain of the directory with these facts.
    """
    lines, before = [], first_link(facts)
    for each in recorded:
        before = next_link(before, each.name, each.bytes, each.sha256)
        if each.link != before:
            lines.append(f"the record itself was changed, at or before {each.name}")
            break
    known, present = ({each.name: each for each in links} for links in (recorded, now))
    for name in sorted(known | present):
        old, new = known.get(name), present.get(name)
        if new is None:
            lines.append(f"{name} is missing")
        elif old is None:
            lines.append(f"{name} is not in the record")
        elif (old.bytes, old.sha256) != (new.bytes, new.sha256):
            lines.append(f"{name} was changed")
    return lines


def _files(directory: Path, leave_out: Sequence[str]) -> Iterator[Path]:
    paths = []
    for folder, folders, names in os.walk(directory):
        paths += [Path(folder) / name for name in (*names, *folders)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    for path in sorted(paths, key=lambda path: path.relative_to(directory).as_posix()):
        name = path.relative_to(directory).as_posix()
        if name in leave_out or path.name.startswith("."):
            continue
        if path.is_symlink():
            raise InputError(f"{path} is a link; copy the file that it leads to into {directory}.")
        if not path.is_dir():
            yield path


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
