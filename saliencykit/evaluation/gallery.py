"""Gallery: the first images of a run with their masks, as PNG files for the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from PIL import Image
from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.storage.atomic_files import write_beside
from saliencykit.visualization.display import to_pil


@final
@dataclass(frozen=True)
class Gallery:
    """PNG files of an image: the model's input, and for each masker the mask, what it keeps, and
    what it drops.

    Args:
        path: The run directory.
        alternative: Fills the pixels where the mask is 0.
        seed: Random seed of the fills.
        max_images: Images with an index below this have files.
        files: File names by masker.
    """

    path: Path
    alternative: Alternative
    seed: int
    max_images: int
    files: Mapping[str, str]

    def add(self, image: Images, mask: Mask, index: int, masker: str) -> None:
        """Write four files, each moved into place when it is complete.

        Args:
            image: (1, C, H, W).
            mask: (1, 1, H, W).
            index: The image's position in the data set.
            masker: The masker's name.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        if index >= self.max_images:
            return
        kept, dropped = (
            self.alternative.edit(image, m, Generator().manual_seed(self.seed))
            for m in (mask, 1 - mask)
        )
        file = self.files[masker]
        self._write(f"images/{index}", to_pil(image).convert("RGB"))
        self._write(f"masks/{file}/{index}", to_pil(mask))
        self._write(f"kept/{file}/{index}", to_pil(kept).convert("RGB"))
        self._write(f"dropped/{file}/{index}", to_pil(dropped).convert("RGB"))

    def _write(self, name: str, image: Image.Image) -> None:
        def write(path: Path) -> None:
            image.save(path, format="PNG", compress_level=1)  # fast, at a tenth more bytes

        write_beside(self.path / f"{name}.png", write)
