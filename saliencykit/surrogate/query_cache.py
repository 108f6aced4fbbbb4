"""QueryCache: a model's answers to a list of images, each queried once and kept on disk."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import torch
from msgspec import Struct
from safetensors.torch import save
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, GradientError, InputError, SaliencyKitError
from saliencykit.core.types import Logits
from saliencykit.runs.batch_runner import memory_advice
from saliencykit.storage.atomic_files import writable, write_bytes
from saliencykit.storage.tensor_file import check_finite, read_tensors
from saliencykit.storage.typed_json import Count, parse_json, typed
from saliencykit.surrogate.masked_images import MaskedImages

FORMAT = 1
_KEY = "saliencykit-answers"
_AFTER = "the files after it, or use another directory."
_BATCH = 32  # images per query, for a model that names no limit
_FLUSH = 1.0  # seconds between writes, at most; and at the end, however it ends


class _Header(Struct):
    format: int
    source_hash: str
    first: Count


@final
class QueryCache:
    """A model's logits for masked images, in order.

    They are written to the directory as they arrive, `answers-000000.safetensors` and so on, and
    read from there the next time: only what is missing is queried.

    Args:
        black_box: The model.
        images: What it is queried with, in order.
        source_hash: Of model, images and settings; a directory with another one is refused.
        directory: Where answers are kept; None: in memory only.
        resume: Use what is in the directory. False: delete it.
        on_progress: Called with the number of answers so far and of all.

    Raises:
        InputError: The directory cannot be written, or holds answers to something else, or a
            damaged file.
    """

    def __init__(
        self,
        black_box: BlackBox,
        images: MaskedImages,
        source_hash: str,
        directory: Path | None,
        *,
        resume: bool = True,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.black_box, self.images, self.on_progress = black_box, images, on_progress
        self.source_hash, self.directory = source_hash, directory
        self._rows: list[Tensor] = []
        self._count = self._written = 0
        if directory is not None:
            writable(directory)
            for path in sorted(directory.glob("answers-*.safetensors")):
                if resume:
                    self._read(path)
                else:
                    path.unlink()
            self._written = self._count

    def __len__(self) -> int:
        """How many answers there are."""
        return self._count

    def logits(self) -> Logits:
        """All answers, (Q, K) float32 on the CPU; queries the model with the images that are
        missing.

        Raises:
            SaliencyKitError: The model raised, or returned NaN; earlier answers are kept.
        """
        size = min(self.black_box.max_batch_size or _BATCH, _BATCH)
        flushed, total = time.monotonic(), len(self.images)
        try:
            while self._count < total:
                index = torch.arange(self._count, min(self._count + size, total), device="cpu")
                device, who = self.black_box.device, name_of(self.black_box)
                with torch.no_grad(), memory_advice(device, who, len(index)):
                    answer = self.black_box(self.images.images(index).to(device))
                self._add(answer.detach().to("cpu", torch.float32))
                self.on_progress(self._count, total)
                if time.monotonic() - flushed > _FLUSH:
                    self._write()
                    flushed = time.monotonic()
        except SaliencyKitError as error:
            kinds = (ContractError, GradientError, InputError, SaliencyKitError)
            kind = next(kind for kind in kinds if isinstance(error, kind))
            raise kind(self._explain(error, int(index[0]))) from error
        finally:
            self._write()
        return torch.cat(self._rows)[:total]

    def _add(self, rows: Tensor) -> None:
        if self._rows and rows.shape[1] != self._rows[0].shape[1]:
            raise InputError(
                f"{name_of(self.black_box)} returned {self._rows[0].shape[1]} classes before, and "
                f"now {rows.shape[1]}."
            )
        self._rows.append(rows)
        self._count += len(rows)

    def _explain(self, error: Exception, first: int) -> str:
        """The error, with the image that it is about and what happened to the answers before it."""
        row, which = re.search(r"for row (\d+)", str(error)), ""
        if row is not None and first + int(row[1]) < len(self.images):
            number = first + int(row[1])
            area, source = float(self.images.area[number]), int(self.images.source[number])
            masked = f"masked, {area:.0%} kept" if area < 1 else "whole"
            which = f" (that row: image {source}, {masked})"
        kept = "are lost; give checkpoint_dir= to keep them"
        if self.directory:
            kept = f"are kept in {self.directory}: the same call queries only the missing ones"
        return (
            f"{str(error).rstrip('.')}{which}. The earlier outputs, {self._count} of "
            f"{len(self.images)}, {kept}."
        )

    def _write(self) -> None:
        if self.directory is None or self._written == self._count:
            return
        new = torch.cat(self._rows)[self._written :].contiguous()
        header = {
            _KEY: json.dumps(
                {"format": FORMAT, "source_hash": self.source_hash, "first": self._written}
            )
        }
        data = save({"logits": new}, metadata=header)
        write_bytes(self.directory / f"answers-{self._written:06}.safetensors", data)
        self._written = self._count

    def _read(self, path: Path) -> None:
        try:
            tensors, texts = read_tensors(path)
            check_finite(tensors, path)
            header = typed(parse_json(texts.get(_KEY, "{}"), path), _Header, path)
            rows = typed(tensors.get("logits"), Tensor, path)
        except InputError as error:
            raise InputError(f"{error} Delete it and {_AFTER}") from error
        if header.format != FORMAT or header.source_hash != self.source_hash:
            raise InputError(
                f"{path.parent} contains outputs of another model, or for other images or "
                "settings; use another directory, or resume=False (--no-resume) to delete them "
                "and query again."
            )
        if header.first != self._count or rows.ndim != 2:
            raise InputError(f"{path} does not follow the file before it; delete it and {_AFTER}")
        self._add(rows)
