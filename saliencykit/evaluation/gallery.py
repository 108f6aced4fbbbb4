"""Gallery: the first pictures of a run with their masks, as PNG files for the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.files import cannot_write


@final
@dataclass(frozen=True)
class Gallery:
    """What the report shows of a picture: the model's input, and of each masker the mask, what it keeps and what it drops.

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
        kept, dropped = (self.alternative.edit(image, m, Generator().manual_seed(self.seed)) for m in (mask, 1 - mask))
        files = {f"pictures/{index}": image, f"masks/{masker}/{index}": mask}
        files |= {f"kept/{masker}/{index}": kept, f"dropped/{masker}/{index}": dropped}
        for name, pixels in files.items():
            self._write(self.folder / f"{name}.png", pixels[0])

    def _write(self, path: Path, pixels: Tensor) -> None:
        from PIL import Image

        grey = path.parent.parent.name == "masks"
        if pixels.shape[0] not in (1, 3):
            pixels = pixels.mean(0, keepdim=True)
        array = (pixels.detach().float().clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8).permute(1, 2, 0).numpy()
        picture = Image.fromarray(array[:, :, 0]) if array.shape[2] == 1 else Image.fromarray(array)
        beside = path.with_name(f".{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            (picture if grey else picture.convert("RGB")).save(beside, format="PNG", compress_level=1)  # quick: a tenth larger
            beside.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error
