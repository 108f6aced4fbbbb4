"""Answers: what a box says of a row of pictures, each asked once; kept in a folder, so that nothing
is paid for twice.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, GradientError, InputError, SaliencyKitError
from saliencykit.core.types import Logits
from saliencykit.runs.batch_runner import memory_advice
from saliencykit.storage.atomic_files import writable, write_beside
from saliencykit.surrogate.masked_images import MaskedImages

FORMAT = 1
_KEY = "saliencykit-answers"
_BATCH = 32  # pictures a question, for a box that names no limit
_FLUSH = 10.0  # seconds between writes, at most; and at the end, whatever ends it


@final
class QueryCache:
    """A box's answers to `training` pictures, and to `held`-out ones before them, in this order.

    Answers are written to the folder as they come, `answers-000000.safetensors` and so on, and read
    from there the next time: only what is missing is asked.

    Args:
        black_box: Who is asked.
        pictures: What about, in order.
        about: What the answers belong to: box, pictures and settings.
        folder: Where they are kept; None: in memory only.
        resume: Use what is in the folder. False: delete it.
        on_asked: Called with the number of answers so far.

    Attributes:
        spent: How many queries this object made.

    Raises:
        InputError: The folder cannot be written, or holds answers about something else, or a
            damaged file.
    """

    def __init__(
        self,
        black_box: BlackBox,
        pictures: MaskedImages,
        about: str,
        folder: Path | None,
        *,
        resume: bool = True,
        on_asked: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.black_box, self.pictures, self.about, self.folder, self.on_asked = (
            black_box,
            pictures,
            about,
            folder,
            on_asked,
        )
        self.spent = 0
        self._rows: list[Tensor] = []
        self._count = self._written = 0
        if folder is not None:
            writable(folder)
            for path in sorted(folder.glob("answers-*.safetensors")):
                if resume:
                    self._read(path)
                else:
                    path.unlink()
            self._written = self._count

    def __len__(self) -> int:
        """How many answers there are."""
        return self._count

    def ask(self) -> Logits:
        """The answers to all pictures, (Q, K) float32 on the CPU; the box is asked about those that
        are missing.

        Raises:
            SaliencyKitError: The box raised, or answered with NaN; what it answered before is kept.
        """
        size = min(self.black_box.max_batch_size or _BATCH, _BATCH)
        flushed = time.monotonic()
        try:
            while self._count < len(self.pictures):
                index = torch.arange(self._count, min(self._count + size, len(self.pictures)))
                device, who = self.black_box.device, name_of(self.black_box)
                with torch.no_grad(), memory_advice(device, who, len(index)):
                    answer = self.black_box(self.pictures.images(index).to(self.black_box.device))
                self.spent += len(index)
                self._add(answer.detach().to("cpu", torch.float32))
                self.on_asked(self._count)
                if time.monotonic() - flushed > _FLUSH:
                    self._write()
                    flushed = time.monotonic()
        except SaliencyKitError as error:
            self._write()
            text = self._lost(error, int(index[0]))
            kind = next(
                (
                    kind
                    for kind in (ContractError, GradientError, InputError)
                    if isinstance(error, kind)
                ),
                SaliencyKitError,
            )
            raise kind(text) from error
        finally:
            self._write()
        return torch.cat(self._rows)[: len(self.pictures)]

    def _add(self, rows: Tensor) -> None:
        if self._rows and rows.shape[1] != self._rows[0].shape[1]:
            raise InputError(
                f"{name_of(self.black_box)} answered for {self._rows[0].shape[1]} classes and now for "
                f"{rows.shape[1]}."
            )
        self._rows.append(rows)
        self._count += len(rows)

    def _lost(self, error: Exception, first: int) -> str:
        row = re.search(r"for row (\d+)", str(error))
        which = ""
        if row is not None and first + int(row[1]) < len(self.pictures):
            number = first + int(row[1])
            masked = (
                f"masked, {float(self.pictures.area[number]):.0%} kept"
                if self.pictures.area[number] < 1
                else "whole"
            )
            which = f" (row {row[1]} there: picture {int(self.pictures.picture[number])}, {masked})"
        kept = (
            f"are kept in {self.folder}: the same call asks only for the rest"
            if self.folder
            else "are lost; give checkpoint_dir= to keep them"
        )
        return f"{str(error).rstrip('.')}{which}. The answers before it, {self._count} of {len(self.pictures)}, {kept}."

    def _write(self) -> None:
        from safetensors.torch import save

        if self.folder is None or self._written == self._count:
            return
        new = torch.cat(self._rows)[self._written :].contiguous()
        header = {_KEY: json.dumps({"format": FORMAT, "about": self.about, "first": self._written})}
        data = save({"logits": new}, metadata=header)
        write_beside(
            self.folder / f"answers-{self._written:06}.safetensors",
            lambda beside: beside.write_bytes(data),
        )
        self._written = self._count

    def _read(self, path: Path) -> None:
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
                rows = file.get_tensor("logits")
        except Exception as error:
            raise InputError(
                f"{path} is damaged ({error}); delete it and what comes after it, or use another "
                "folder."
            ) from error
        if header.get("format") != FORMAT or header.get("about") != self.about:
            raise InputError(
                f"{path.parent} holds answers of another model, of other pictures or of other "
                "settings; use another folder, or resume=False (--no-resume) to delete them and "
                "ask again."
            )
        if header.get("first") != self._count or rows.ndim != 2:
            raise InputError(
                f"{path} does not follow the file before it; delete it and what comes after it, "
                "or use another folder."
            )
        self._add(rows)
