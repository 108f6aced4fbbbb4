"""Gallery: the first pictures of a run with their masks, as PNG files for the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.storage.atomic_files import write_beside
from saliencykit.visualization.display import to_pil

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Gallery:
    """What the report shows of a picture: the model's input, and of each masker the mask, what it
    keeps and what it drops.

    Args:
        folder: The run directory.
        alternative: What stands where the mask is 0.
        seed: Of the fills.
    """

    folder: Path
    alternative: Alternative
    seed: int

    def add(self, image: Images, mask: Mask, index: int, masker: str) -> None:
        """Write four files, each moved into place when it is whole.

        Args:
            image: (1, C, H, W).
            mask: (1, 1, H, W).
            index: The picture's place in the data set.
            masker: The masker's name as a file name.

        Raises:
            SaliencyKitError: The disk is full, or the directory cannot be written.
        """
        kept, dropped = (
            self.alternative.edit(image, m, Generator().manual_seed(self.seed))
            for m in (mask, 1 - mask)
        )
        self._write(f"pictures/{index}", to_pil(image).convert("RGB"))
        self._write(f"masks/{masker}/{index}", to_pil(mask))
        self._write(f"kept/{masker}/{index}", to_pil(kept).convert("RGB"))
        self._write(f"dropped/{masker}/{index}", to_pil(dropped).convert("RGB"))

    def _write(self, name: str, picture: "Image") -> None:
        def write(beside: Path) -> None:
            picture.save(beside, format="PNG", compress_level=1)  # quick: a tenth larger

        write_beside(self.folder / f"{name}.png", write)
