"""Tiny classifiers whose evidence is known, and wrappers that count, limit or break a black box."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels, Logits, Mask

# gray is 0 in both, so no gray fill is evidence
_COLORS = {
    "red-green": (1.0, -1.0, 0.0),
    "blue-yellow": (-0.5, -0.5, 1.0),
}
# sign changes per step down and per step right
_TEXTURES = {
    "checks": (1, 1),
    "columns": (0, 1),
    "rows": (1, 0),
}
_CONTRAST = 0.4  # of a planted patch around gray: its pixels lie in [0.1, 0.9]
_CPU = torch.device("cpu")
_GRAIN = 0.05  # standard deviation of the gray background


@final
@dataclass(frozen=True, kw_only=True)
class PlantedEvidence(BlackBox):
    """A classifier that decides by one small patch per class, so the place of a good mask is known.

    Each class has a patch with its own color pair and texture. The logit is `sharpness` times the
    square of the best match of that patch anywhere in the image: 1 for the planted patch, about 0
    without it. Blur, noise and every single color remove a patch. It does not recognize a patch at
    another scale.

    Args:
        num_classes: K, from 2 to 6.
        side: Side of the patch in pixels, even, >= 2. Images are RGB, at least as large.
        sharpness: The logit of a planted patch, > 0.
        max_batch_size: See BlackBox.
        device: Where images must be.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(8, generator=torch.Generator().manual_seed(0))
        >>> bool((black_box(images).argmax(1) == labels).all())
        True
        >>> black_box.evidence(images, labels).mean().item()
        0.0625
    """

    num_classes: int = 4
    side: int = 4
    sharpness: float = 8.0
    max_batch_size: int | None = None
    device: torch.device = _CPU

    differentiable = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 2 <= self.num_classes <= len(_COLORS) * len(_TEXTURES):
            raise InputError(
                f"{self}: num_classes must be from 2 to {len(_COLORS) * len(_TEXTURES)}."
            )
        if self.side < 2 or self.side % 2 or not 0 < self.sharpness < float("inf"):
            raise InputError(f"{self}: side must be even and >= 2, sharpness must be > 0.")

    @property
    def class_names(self) -> Sequence[str]:  # type: ignore[override]
        """Color and texture of the patch of each class."""
        return [f"{color} {texture}" for texture in _TEXTURES for color in _COLORS][
            : self.num_classes
        ]

    def patches(self, like: Tensor) -> Tensor:
        """The patch of every class, relative to gray, (K, 3, side, side) in [-1, 1].

        Args:
            like: The tensor that gives dtype and device.
        """
        return _patches(self.side)[: self.num_classes].to(like, copy=True)

    def examples(
        self, n: int, *, generator: Generator, size: int | tuple[int, int] = 16
    ) -> tuple[Images, Labels]:
        """Gray grain with one patch each, at a random place.

        Args:
            n: Number of images, >= 1. The labels cycle: 0, 1, ..., K - 1, 0, ...
            generator: Places and grain are drawn from it.
            size: Side, or height and width, in pixels.

        Returns:
            Images (n, 3, H, W), float32 in [0, 1], and their labels (n,).

        Raises:
            InputError: n or the size is too small.
        """
        height, width = (size, size) if isinstance(size, int) else size
        if n < 1 or min(height, width) < self.side:
            raise InputError(
                f"{self}.examples({n}, size={size}): n must be >= 1 and the sides must be >= "
                f"{self.side}."
            )
        labels = torch.arange(n, device="cpu") % self.num_classes
        shape = (n, 1, height, width)
        grain = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        images = (0.5 + grain.clamp(-4, 4) * _GRAIN).repeat(1, 3, 1, 1)
        patches = self.patches(images)
        for image, label in zip(images, labels.tolist(), strict=True):
            top, left = (
                int(torch.randint(side - self.side + 1, (1,), generator=generator, device="cpu"))
                for side in (height, width)
            )
            patch = image[:, top : top + self.side, left : left + self.side]
            patch.copy_(0.5 + _CONTRAST * patches[label])
        return images.to(self.device), labels.to(self.device)

    def evidence(self, images: Images, labels: Labels) -> Mask:
        """The correct mask: 1 on the patch that determines the label's logit, 0 elsewhere.

        Args:
            images: (B, 3, H, W).
            labels: (B,) int64.

        Returns:
            (B, 1, H, W).
        """
        match = self._match(images.detach())[torch.arange(len(images), device="cpu"), labels]
        mask = images.new_zeros(len(images), 1, *images.shape[2:])
        for row, best in zip(mask, match.flatten(1).argmax(1).tolist(), strict=True):
            top, left = divmod(best, match.shape[2])
            row[:, top : top + self.side, left : left + self.side] = 1
        return mask

    def logits(self, images: Images) -> Logits:
        """`sharpness` times the square of the best match of each class's patch, (B, K)."""
        return self.sharpness * self._match(images).flatten(2).amax(2).clamp_min(0).square()

    def _match(self, images: Images) -> Tensor:
        if images.shape[1] != 3 or min(images.shape[2:]) < self.side:
            raise InputError(
                f"{self} takes RGB images with sides >= {self.side}; got shape "
                f"{tuple(images.shape)}."
            )
        patches = self.patches(images)
        norm = _CONTRAST * patches.square().sum((1, 2, 3), keepdim=True)
        return F.conv2d(images - 0.5, patches / norm)


@cache
def _patches(side: int) -> Tensor:
    """The patch of every color and texture; not to be written into."""
    right = torch.arange(side, device="cpu")
    down = right[:, None]
    signs = [1.0 - 2.0 * ((a * down + b * right) % 2) for a, b in _TEXTURES.values()]
    colors = torch.tensor(list(_COLORS.values()), dtype=torch.float32, device="cpu")
    return torch.stack([sign * color[:, None, None] for sign in signs for color in colors])


def iou(mask: Mask, truth: Mask, threshold: float = 0.5) -> Tensor:
    """Intersection over union of two thresholded masks, (B,) in [0, 1]; 0 if both are empty.

    Args:
        mask: (B, 1, H, W).
        truth: (B, 1, H, W).
        threshold: Pixels >= this are inside.

    Example:
        >>> half = torch.tensor([[[[1.0, 0.0]]]])
        >>> iou(torch.ones(1, 1, 1, 2), half).item()
        0.5
    """
    inside, wanted = mask >= threshold, truth >= threshold
    both = (inside & wanted).sum((1, 2, 3))
    return both / (inside | wanted).sum((1, 2, 3)).clamp_min(1)


def small_network() -> nn.Sequential:
    """A convolutional network of 4 classes with one layer of each common kind, and the same weights
    every time.

    Example:
        >>> small_network().eval()(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 4])
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        trunk = [
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(8, 5, 3, stride=2),
        ]
        return nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))


@final
class QueryOnly(BlackBoxWrapper):
    """A black box without gradients, like a web service or a compiled model.

    Args:
        black_box: The classifier inside.

    Example:
        >>> QueryOnly(PlantedEvidence()).differentiable
        False
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__(black_box)
        self.differentiable, self.module = False, None

    def logits(self, images: Images) -> Logits:
        """The logits of the classifier inside, detached."""
        with torch.no_grad():
            return self.black_box(images.detach()).detach()


@final
class Counting(BlackBoxWrapper):
    """A black box that counts its queries, together with those of its optimized copies.

    Args:
        black_box: The classifier inside.
        batch_sizes: The batch size of every call so far; clear it to start again.

    Example:
        >>> black_box = Counting(PlantedEvidence())
        >>> logits = black_box(torch.rand(3, 3, 8, 8)), black_box(torch.rand(2, 3, 8, 8))
        >>> black_box.batch_sizes, black_box.num_images
        ([3, 2], 5)
    """

    def __init__(self, black_box: BlackBox, batch_sizes: list[int] | None = None) -> None:
        super().__init__(black_box)
        self.module, self.batch_sizes = None, [] if batch_sizes is None else batch_sizes

    @property
    def num_images(self) -> int:
        """The number of images in all calls so far."""
        return sum(self.batch_sizes)

    def logits(self, images: Images) -> Logits:
        """Count, then query the classifier inside."""
        self.batch_sizes.append(len(images))
        return self.black_box(images)


@final
class Broken(BlackBoxWrapper):
    """A black box that breaks its contract.

    Args:
        black_box: The classifier inside.
        how: `nan` or `infinite` in the last row, a `shape` with one class too many, one row too few
            (`rows`), an `integer` dtype, a `list` instead of a tensor, or it `raises` a
            RuntimeError.

    Example:
        >>> Broken(how="nan")(torch.rand(2, 3, 8, 8))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        saliencykit.core.errors.ContractError: Broken.logits returned NaN or infinite logits for ...
    """

    def __init__(
        self,
        black_box: BlackBox | None = None,
        how: Literal["nan", "infinite", "shape", "rows", "integer", "list", "raises"] = "nan",
    ) -> None:
        super().__init__(PlantedEvidence() if black_box is None else black_box)
        self.module, self.how = None, how

    def logits(self, images: Images) -> Logits:
        """The logits of the classifier inside, broken."""
        logits = self.black_box(images)
        last = torch.zeros_like(logits[:, :1], dtype=torch.bool)
        last[-1] = True
        match self.how:
            case "nan":
                return torch.where(last, float("nan"), logits)
            case "infinite":
                return torch.where(last, float("inf"), logits)
            case "shape":
                return torch.cat([logits, logits[:, :1]], dim=1)
            case "rows":
                return logits[:-1]
            case "integer":
                return logits.long()
            case "list":
                return logits.tolist()  # type: ignore[return-value]
        raise RuntimeError("this model always raises")
