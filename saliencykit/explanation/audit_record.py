"""AuditRecord: `audit.json` says what an explanation rests on, and seals every file beside it."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from msgspec import Struct, to_builtins

from saliencykit.core.errors import InputError
from saliencykit.runs.run_settings import versions
from saliencykit.storage.atomic_files import refuse_links, write_text
from saliencykit.storage.hash_chain import Link, chain, differences, first_link
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.typed_json import Facts, read_json, typed

FORMAT = "saliencykit-audit"
VERSION = 1
NAME = "audit.json"
_NO_CONTENT = (NAME, "lock", "threads.txt")  # of a run at work; they say nothing about its results


@final
@dataclass(frozen=True)
class AuditRecord:
    """What a saved explanation, or a run over a data set, rests on, and the hashes of its files.

    Attributes:
        directory: Where `audit.json` and the files are.
        facts: Verdicts, fingerprints of model and masker, settings, versions, the certificate and
            the sanity checks where there are any, and when the record was written.
        files: Name, size, SHA-256 and link of each file, see `storage.hash_chain`.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit import explain
        >>> from saliencykit.testing import PlantedEvidence
        >>> image = torch.rand(3, 16, 16)
        >>> explanation = explain(PlantedEvidence(), image, 0, masker="center-box")
        >>> folder = explanation.save(tempfile.mkdtemp(), audit=True)
        >>> record = AuditRecord.load(folder)
        >>> record.facts["subject"], record.problems()
        ('explanation', ())
        >>> _ = (folder / "overlay-0000.png").write_bytes(b"another image")
        >>> record.problems()
        ('overlay-0000.png was changed',)
    """

    directory: Path
    facts: Mapping[str, Any]
    files: tuple[Link, ...] = ()

    @property
    def seal(self) -> str:
        """The last link of the chain, 64 hexadecimal digits; it stands for the whole directory."""
        return self.files[-1].link if self.files else first_link(self.facts)

    def problems(self, seal: str | None = None) -> tuple[str, ...]:
        """What is not as it was recorded, a line each; empty if nothing changed.

        Args:
            seal: The seal that you kept elsewhere, or its first 12 digits or more.

        Raises:
            InputError: A file cannot be read, or the seal is too short to mean anything.
        """
        now = chain(self.directory, self.facts, leave_out=_NO_CONTENT)
        lines = differences(self.files, self.facts, now)
        if seal is not None:
            if len(seal) < 12:
                raise InputError(f"seal {seal!r}: give at least its first 12 digits.")
            if not self.seal.startswith(seal.lower()):
                lines.append(f"the record has the seal {self.seal[:16]}..., not {seal}")
        return tuple(lines)

    @staticmethod
    def load(directory: str | Path) -> "AuditRecord":
        """Read the record; the files are read by `problems`.

        Raises:
            InputError: There is no record, or it is damaged or of another format.
        """
        directory = Path(directory).expanduser()
        path = directory / NAME
        read = read_manifest(path, "audit record", Struct, format=FORMAT, version=VERSION)
        entries = typed(read, _Record, path)
        return AuditRecord(directory, entries.facts, entries.files)


class _Record(Struct):
    facts: Facts
    files: tuple[Link, ...]


def write_record(
    directory: Path, facts: Mapping[str, Any], sanity: Mapping[str, Any] | str | Path | None = None
) -> AuditRecord:
    """Hash the files of a directory and write the record; one that is there is replaced.

    Args:
        directory: Of an explanation or a run.
        facts: What the explanations rest on.
        sanity: See `audit`.

    Raises:
        InputError: A file cannot be read or is a link, or `sanity` is no report.
    """
    refuse_links(directory / NAME)
    every = dict(facts) | {
        "sanity": None if sanity is None else _sanity(sanity),
        "versions": versions() | {"platform": platform.platform()},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    every = json.loads(json.dumps(every, default=str))  # as it will be read again
    files = tuple(chain(directory, every, leave_out=_NO_CONTENT))
    record = {"format": FORMAT, "version": VERSION, "facts": every, "files": to_builtins(files)}
    write_text(directory / NAME, json.dumps(record, indent=1))
    return AuditRecord(directory, every, files)


class _Check(Struct):
    line: str
    rule: str
    passed: bool | None


class _Sanity(Struct):
    model: str
    masker: str
    num_images: int
    passed: bool | None
    results: dict[str, _Check]
    skipped: dict[str, str]


def _sanity(report: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The report as it is, once it is one."""
    if isinstance(report, Mapping):
        typed(dict(report), _Sanity, "sanity=")
        return dict(report)
    path = Path(report).expanduser()
    try:
        read = read_json(path)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {path}; `saliencykit sanity-check --output {path}` writes it."
        ) from error
    typed(read, _Sanity, path)
    return dict(read)
