"""Manifests: JSON files that say what a directory contains and in which format."""

from pathlib import Path
from typing import Any

from saliencykit.core.errors import InputError
from saliencykit.storage.typed_json import one_line, read_json, typed


def read_manifest(path: Path, what: str, kind: type, **expected: object) -> dict[str, Any]:
    """Read a manifest, and check its format and the types of its fields.

    Args:
        path: The JSON file.
        what: What the directory contains, for the error message: `evaluation`.
        kind: The type of its fields, see `typed`.
        **expected: Entries that the manifest must have, such as its format and version.

    Raises:
        InputError: There is no such file, or it is damaged or of another format.
    """
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no {what} in {path.parent}: it has no {path.name}.") from error
    entries: dict[str, Any] = typed(manifest, dict, path)
    got = {key: entries.get(key) for key in expected}
    if got != expected:
        raise InputError(
            f"{path} has {_words(got)}; this version of saliencykit reads {_words(expected)}."
        )
    typed(entries, kind, path)
    return entries


def _words(entries: dict[str, object]) -> str:
    return ", ".join(f"{key} {one_line(value)}" for key, value in entries.items())
