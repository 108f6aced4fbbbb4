"""TarArchive: a tar of images and their labels, as webdataset writes and reads them."""

import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, final

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.data.archives import Archive
from saliencykit.data.image_folder import SUFFIXES
from saliencykit.data.record import ArchiveImage, Record
from saliencykit.data.table import row_record
from saliencykit.storage.locations import as_os_error, is_remote
from saliencykit.storage.typed_json import parse_json, typed

_Sample: TypeAlias = dict[str, tarfile.TarInfo]
_LABELS = (".cls", ".json")
_LARGEST = {".cls": 2**10, ".json": 2**20}  # bytes; of images:
_LARGEST_IMAGE = 2**30


@final
@dataclass(frozen=True)
class TarArchive(Archive):
    """A tar that is not compressed. Nothing is extracted to the disk; links are not followed.

    Files of one name up to the first dot are a sample: an image (`a.jpg`), and optionally its label
    (`a.cls`: an index or a name) or an object with `label` and `boxes` (`a.json`). A remote tar is
    copied to a temporary file while its images are read.
    """

    def records(self) -> list[Record]:
        """See `Archive.records`."""
        samples: dict[str, _Sample] = {}
        why = ""
        refuse_special_file(self._local)
        try:
            with tarfile.open(self._local, "r:") as tar:
                for key, suffix, member in _members(tar):
                    samples.setdefault(key, {}).setdefault(suffix, member)
                why = _rest(self._local, tar.offset)
        except tarfile.TarError as error:
            why = str(error)
        with self._local.open("rb") as file:
            found = [
                self._record(f"{self.name}/{key}{suffix}", sample, suffix, file)
                for key, sample in samples.items()
                if (suffix := next((each for each in sample if each in SUFFIXES), ""))
            ]
        return [*found, self.damaged(len(found), why)] if why else found

    def _record(self, name: str, sample: _Sample, suffix: str, file: Any) -> Record:
        image, row = sample[suffix], dict[str, Any]()
        place = ArchiveImage(self, (image.offset_data, image.size))
        try:
            for each in sample:
                _refuse_other(sample[each], each)
            if ".json" in sample:
                row = typed(parse_json(_content(file, sample[".json"]), ".json"), dict, ".json")
            if ".cls" in sample:
                row |= {"label": _content(file, sample[".cls"]).decode().strip()}
        except (InputError, UnicodeDecodeError) as error:
            return Record(name, place, failure=f"{name}: {error}")
        return row_record(name, place, row)

    def read(self, place: Any) -> bytes:
        """See `Archive.read`."""
        offset, size = place
        with self._local.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    @cached_property
    def _local(self) -> Path:
        """The file, or a copy of a remote one as long as this object lives."""
        if not is_remote(self.path):
            return self.path
        folder, remote = Path(tempfile.mkdtemp(prefix="saliencykit-")), self.path
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        with as_os_error():
            remote.fs.get_file(remote.path, str(folder / "copy.tar"))  # type: ignore[attr-defined]
        return folder / "copy.tar"


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, suffix and header of the files that belong to samples."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # a million headers stay in memory otherwise
        path = PurePosixPath(member.name)
        stem, dot, rest = path.name.partition(".")
        suffix = (dot + rest).lower()
        if stem and not member.isdir() and suffix in (*SUFFIXES, *_LABELS):
            yield path.with_name(stem).as_posix(), suffix, member


def _rest(path: Path, offset: int) -> str:
    """Why the archive ends before the file does; empty where it does not.

    tarfile takes a damaged header for the end.
    """
    with path.open("rb") as file:
        file.seek(offset)
        return "a header cannot be read" if file.read(512).strip(b"\0") else ""


def _refuse_other(member: tarfile.TarInfo, suffix: str) -> None:
    if not member.isreg() or member.issparse():
        raise InputError(f"{member.name} is a link or a special file, which is not followed.")
    if member.size > _LARGEST.get(suffix, _LARGEST_IMAGE):
        raise InputError(f"{member.name} has {member.size} bytes, which is too large.")


def _content(file: Any, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    content: bytes = file.read(member.size)
    return content
