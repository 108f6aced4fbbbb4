"""ImageSplit: which images a training learns from, and which validate it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels
from saliencykit.data.training_images import TrainingImages

if TYPE_CHECKING:
    from accelerate import Accelerator

_HELD_OUT = 48  # images for validation, at most; a fifth of a small set
_STATISTICS = 64  # images from which the selector's scale and threshold are set


@final
@dataclass(frozen=True)
class ImageSplit:
    """Training images, those of this process, and held-out ones."""

    training: TrainingImages
    local: TrainingImages
    held_out: TrainingImages

    @staticmethod
    def of(every: TrainingImages, seed: int, accelerator: "Accelerator") -> "ImageSplit":
        """Hold out up to 48 images, a fifth of a small set; all processes get equally many.

        Raises:
            InputError: There are fewer than two images for each process.
        """
        count = min(_HELD_OUT, max(1, len(every) // 5))
        order = torch.randperm(len(every), generator=Generator().manual_seed(seed), device="cpu")
        training, processes = _rows(every, order[count:]), accelerator.num_processes
        each = len(training) // processes
        if each < 2:
            raise InputError(
                f"fit got {len(training)} training images for {processes} processes; each needs "
                "two."
            )
        own = torch.arange(accelerator.process_index, each * processes, processes, device="cpu")
        local = training if processes == 1 else _rows(training, own)
        return ImageSplit(training, local, _rows(every, order[:count]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.training.pixels.shape[2:]
        return height, width

    def statistics(self, device: torch.device) -> tuple[Images, Labels | None]:
        """Some training images with their labels, for the selector's scale and threshold."""
        images = self.training.images(_first(min(_STATISTICS, len(self.training))))
        labels = self.training.labels
        return images.to(device), None if labels is None else labels[: len(images)].to(device)

    def targets(self, black_box: BlackBox) -> tuple[Images, Labels]:
        """Held-out images and their labels: the user's, or the model's own top classes."""
        images = self.held_out.images(_first(len(self.held_out))).to(black_box.device)
        if self.held_out.labels is not None:
            return images, self.held_out.labels.to(black_box.device)
        with torch.no_grad():
            return images, black_box(images).argmax(1)


def _first(count: int) -> Tensor:
    return torch.arange(count, device="cpu")


def _rows(images: TrainingImages, index: Tensor) -> TrainingImages:
    labels = None if images.labels is None else images.labels[index]
    return TrainingImages(images.pixels[index], labels, images.skipped)
