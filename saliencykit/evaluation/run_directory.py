"""RunFolder: settings, rows, table and pictures of one evaluation on disk."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.evaluation.score_rows import Row, read_rows
from saliencykit.storage.atomic_files import row_files, rows_of, write_text

FORMAT = 1
# further maskers and pictures may come
_MUST_AGREE = (
    "format",
    "model",
    "metrics",
    "seed",
    "data",
)
_LONGEST = 80  # letters of a file's name


@final
@dataclass(frozen=True)
class RunDirectory:
    """One evaluation's directory.

    `settings.json`, `rows.jsonl` (and `rows-1.jsonl` ... of further processes, until they are
    merged), `table.csv`, `table.json`, `pictures/`, `masks/`, `kept/`, `dropped/`, and `lock`.

    Args:
        path: The directory; `begin` makes it.
    """

    path: Path

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or take them up into those that are there: further maskers, more
        pictures of the same data.

        Raises:
            InputError: The directory cannot be written, or it holds an evaluation with other
                settings.
        """
        if not (self.path / "settings.json").exists():
            if row_files(self.path):
                raise InputError(
                    f"{self.path} holds rows but no settings.json; choose another directory."
                )
            self._write(settings)
            return
        known, asked = self.settings(), json.loads(json.dumps(settings))
        both = {name: text for name, text in asked["maskers"].items() if name in known["maskers"]}
        theirs = {name: known["maskers"][name] for name in both}
        common = known | {"maskers": theirs}, asked | {"maskers": both}
        together = continued(self.path, "an evaluation", (*_MUST_AGREE, "maskers"), *common)
        # new ones last: the names of files depend on the order
        maskers = known["maskers"] | asked["maskers"]
        if maskers != known["maskers"] or together["limit"] != known.get("limit"):
            self._write(together | {"maskers": maskers})

    def _write(self, settings: Mapping[str, Any]) -> None:
        write_text(
            self.path / "settings.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
        )

    def clear(self) -> None:
        """Forget what is there: settings, rows and tables; other files are left alone."""
        for path in (
            self.path / "settings.json",
            *row_files(self.path),
            self.path / "table.csv",
            self.path / "table.json",
        ):
            path.unlink(missing_ok=True)

    def settings(self) -> dict[str, Any]:
        """What the evaluation was.

        Raises:
            InputError: There is none, or the file is damaged or of another format.
        """
        path = self.path / "settings.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(
                f"there is no evaluation in {self.path}: it has no settings.json."
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}.") from error
        if not isinstance(known, dict) or known.get("format") != FORMAT:
            came = known.get("format") if isinstance(known, dict) else type(known).__name__
            raise InputError(
                f"{path} has format {came!r}; this version of saliencykit reads format {FORMAT}."
            )
        if not all(isinstance(known.get(name), dict) for name in ("maskers", "metrics")):
            raise InputError(
                f"{path} is damaged: it names no maskers and metrics; choose another directory."
            )
        return known

    def rows(self) -> list[Row]:
        """The finished rows, in the order of pictures and maskers."""
        order = {name: place for place, name in enumerate(self.settings()["maskers"])}
        return sorted(
            read_rows(row_files(self.path)),
            key=lambda row: (row.index, order.get(row.masker, len(order)), row.masker),
        )

    def rows_of(self, rank: int) -> Path:
        """The file that one process appends to."""
        return rows_of(self.path, rank)

    def merge(self) -> list[Row]:
        """All rows in one file and in order; those of further processes are taken in."""
        rows = self.rows()
        text = "".join(row.line() + "\n" for row in rows)
        path = self.rows_of(0)
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text)
        for part in row_files(self.path):
            if part != path:
                part.unlink(missing_ok=True)
        return rows


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Maskers' names as file names: letters, digits, `-_.`, else `_`; made unique, also where upper
    and lower case are one.

    Args:
        names: All of a run, in its order.

    Example:
        >>> file_names(["rise:samples=9", "rise:samples/9"])
        {'rise:samples=9': 'rise_samples_9', 'rise:samples/9': 'rise_samples_9-2'}
    """
    out: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        short = base = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST].lstrip(".") or "_"
        count = 1
        while short.lower() in taken:
            count += 1
            short = f"{base}-{count}"
        taken.add(short.lower())
        out[name] = short
    return out


def continued(
    path: Path,
    what: str,
    must_agree: Iterable[str],
    known: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of a run that goes on: those that are there, with the larger limit, and both
    commands.

    Args:
        path: The run directory.
        what: It holds, in words.
        must_agree: Names of settings that may not differ.
        known: The settings that are there.
        asked: Those of this call.

    Raises:
        InputError: Some differ; the message says which and how.

    Warns:
        UserWarning: The run was begun with other versions.
    """
    differences = [
        _difference(key, known.get(key), asked.get(key))
        for key in must_agree
        if known.get(key) != asked.get(key)
    ]
    if differences:
        raise InputError(
            f"{path} holds {what} with other settings: {'; '.join(differences)}. Choose another "
            "directory, or resume=False (--no-resume) to begin again there."
        )
    if known.get("versions") != asked.get("versions"):
        warnings.warn(
            f"{path} was begun with {known.get('versions')}; now it is {asked.get('versions')}.",
            stacklevel=4,
        )
    limits: list[Any] = [known.get("limit"), asked.get("limit")]
    command = f"{known.get('command')} && {asked.get('command')}"
    return dict(known) | {"limit": None if None in limits else max(limits), "command": command}


def _difference(key: str, known: object, asked: object) -> str:
    """How a setting of a directory differs from the one that is asked for, in words."""
    if not isinstance(known, dict) or not isinstance(asked, dict):
        return f"{key}: {_short(known)} there, {_short(asked)} asked"
    parts = []
    for name in dict.fromkeys([*known, *asked]):
        there, wanted = (_short(each[name]) if name in each else "none" for each in (known, asked))
        if known.get(name) != asked.get(name):
            parts.append(f"{name}: {there} there, {wanted} asked")
    return f"{key} ({'; '.join(parts)})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
