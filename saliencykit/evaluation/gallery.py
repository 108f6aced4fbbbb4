"""Gallery: the first pictures of a run with their masks, as PNG files for the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.storage.atomic_files import write_beside

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
        self._write(f"pictures/{index}", _picture(image).convert("RGB"))
        self._write(f"masks/{masker}/{index}", _picture(mask))
        self._write(f"kept/{masker}/{index}", _picture(kept).convert("RGB"))
        self._write(f"dropped/{masker}/{index}", _picture(dropped).convert("RGB"))

    def _write(self, name: str, picture: "Image") -> None:
        def write(beside: Path) -> None:
            picture.save(beside, format="PNG", compress_level=1)  # quick: a tenth larger

        write_beside(self.folder / f"{name}.png", write)


def _picture(images: Tensor) -> "Image":
    """The only image, in RGB or grey; of other numbers of channels the mean."""
    from PIL import Image

    pixels = images[0] if images.shape[1] in (1, 3) else images[0].mean(0, keepdim=True)
    array = (
        (pixels.detach().float().clamp(0, 1) * 255)
        .round()
        .to(device="cpu", dtype=torch.uint8)
        .permute(1, 2, 0)
        .numpy()
    )
    return Image.fromarray(array[:, :, 0]) if array.shape[2] == 1 else Image.fromarray(array)
