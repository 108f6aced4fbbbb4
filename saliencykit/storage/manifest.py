"""Manifests: JSON files that say what a directory contains and in which format."""

import json
from pathlib import Path
from typing import Any

from saliencykit.core.errors import InputError


def read_manifest(path: Path, what: str, **expected: object) -> dict[str, Any]:
    """Read a manifest and check its format.

    Args:
        path: The JSON file.
        what: What the directory contains, for the error message: `evaluation`.
        **expected: Entries that the manifest must have, such as its format and version.

    Raises:
        InputError: There is no such file, or it is damaged or of another format.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no {what} in {path.parent}: it has no {path.name}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path} has {type(manifest).__name__}; expected {_words(expected)}.")
    got = {key: manifest.get(key) for key in expected}
    if got != expected:
        raise InputError(
            f"{path} has {_words(got)}; this version of saliencykit reads {_words(expected)}."
        )
    return manifest


def _words(entries: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entries.items())
