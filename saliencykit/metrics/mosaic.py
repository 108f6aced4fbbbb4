"""Mosaic: four images in one, only one of which shows the class: ground truth without boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.output import Meaning, probability
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.metrics.thresholding import missing


@final
@dataclass(frozen=True, kw_only=True)
class Mosaic(Metric):
    """Grid pointing game: the fraction of the mask's sum in the right one of four images. Higher is
    better; chance is 0.25.

    The image is shrunk to a quarter of the input, and three images of three other classes fill the
    other quarters (with `shrink=False` all keep their size, and the mosaic is twice as high and
    wide as the input). The masker explains the image's class in the mosaic, and `share` is the sum
    of its mask in the right quarter divided by the whole sum. It needs no boxes, and the ground
    truth is exact. But a mosaic is not a photo, its parts are smaller than what the model was
    trained on, and a mask may rightly cover little of its quarter; `probability`, the label's in
    the mosaic, tells whether the task was fair. An empty mask has a share of 0.25, like a constant
    one. The mask of the whole image is not used.

    On 20 photos with MobileNetV2, which gives labels 0.58 on average (median in parentheses): in
    shrunk mosaics 0.04 (0.001), and Grad-CAM's share is 0.57; in mosaics of full size, where the
    mean over all positions lets no class be certain, 0.014 (0.013), and the share is 0.69. There
    the task is fairer, but model and masker must accept the size, and it costs four times as much.

    The other images are drawn for each image from a fixed set, never from the batch, so that a row
    does not depend on its batch. Without a set, or where it does not have three images of three
    other classes, both values are NaN.

    Args:
        others: Images and their classes, of any size, (n, C, h, w); preferably ones of which the
            model is certain. None: `for_data` takes them from the data set, as `evaluate` does.
        shrink: True: the mosaic has the size of the input, which every model and masker accepts.
            False: its parts have, as published; objects keep their size, but the model must accept
            images of twice the size, and averages over four.

    Raises:
        InputError: The set is empty; or the model does not accept images of twice the size.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(8, generator=g))
        >>> mask, metric = torch.ones(8, 1, 16, 16), Mosaic(others=sample)
        >>> scores = metric(black_box, sample, mask, explain=black_box.evidence, generator=g)
        >>> scores["share"].shape
        torch.Size([8])

    References:
        Böhle et al. 2021, "Convolutional Dynamic Alignment Networks for Interpretable
        Classifications", section 4.2; the grid pointing game. Theirs puts images of full size into
        a larger one, which only some models accept.
    """

    others: Sample | None = field(default=None, repr=False, compare=False)
    shrink: bool = True

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that the set is not empty."""
        super().__post_init__()
        if self.others is not None and not len(self.others.images):
            raise InputError(
                "Mosaic(others=...) takes at least one image; three of other classes make a mosaic."
            )

    def for_data(self, sample: Sample) -> "Mosaic":
        """The same metric with these images for its mosaics, unless it has a set already."""
        return replace(self, others=sample) if self.others is None else self

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`share` and `probability`, in [0, 1]. One query and one more explanation per image that
        has a mosaic.
        """
        share, sure = missing(mask), missing(mask)
        partners, places = self._order(sample, generator)
        if self.others is None:
            return {"share": share, "probability": sure}
        able = (partners >= 0).all(1).nonzero().flatten()
        if len(able):
            rows = able.to(mask.device)
            images, labels = sample.images[rows], sample.labels[rows]
            quarters = self.others.images[partners[able]].to(images)
            mosaics = lay_out(images, quarters, places[able], shrink=self.shrink)
            output = relative_output(black_box, images, None, generator)
            sure[rows] = self._probability(black_box, mosaics, labels, output).to(mask.dtype)
            found = explain(mosaics, labels).to(mask.dtype)
            found = found + (found.amax((1, 2, 3), keepdim=True) == 0).to(found.dtype)
            own = quarter_masks(places[able], found)
            share[rows] = (found * own).sum((1, 2, 3)) / found.sum((1, 2, 3))
        return {"share": share, "probability": sure}

    def _probability(
        self, black_box: BlackBox, mosaics: Images, labels: Labels, output: Meaning
    ) -> PerImage:
        try:
            return probability(black_box(mosaics), labels, output)
        except InputError as error:
            if self.shrink:
                raise
            size = f"{mosaics.shape[2]} x {mosaics.shape[3]}"
            raise InputError(
                f"Mosaic(shrink=False) needs a model that accepts images of {size}; write "
                f"shrink=True. {error}"
            ) from error

    def _order(self, sample: Sample, generator: Generator) -> tuple[Tensor, Tensor]:
        """For each image the rows (B, 3) of its partners in the set, -1 where there are too few,
        and its own quarter (B,).
        """
        classes = [] if self.others is None else self.others.labels.tolist()
        drawn = rng.uniform(sample.images.float(), (len(classes) + 1,), generator=generator).cpu()
        partners = torch.full((len(drawn), 3), -1, device="cpu")
        orders = drawn[:, 1:].argsort(1).tolist()
        for row, (own, order) in enumerate(zip(sample.labels.tolist(), orders, strict=True)):
            taken = dict[int, int]()
            for candidate in order:
                if classes[candidate] != own:
                    taken.setdefault(classes[candidate], candidate)
            if len(taken) >= 3:
                partners[row] = torch.tensor(list(taken.values())[:3], device="cpu")
        return partners, (drawn[:, 0] * 4).long().clamp_max(3)


def lay_out(images: Images, others: Tensor, places: Tensor, *, shrink: bool = True) -> Images:
    """2 x 2 mosaics of the size of the images, each part shrunk with antialiasing.

    Args:
        images: (B, C, H, W), H and W >= 2.
        others: (B, 3, C, h, w): for the other quarters, in reading order.
        places: (B,) in 0..3: the image's own quarter, in reading order.
        shrink: False: mosaics of twice the size; only others of another size are resized.
    """
    batch, channels, height, width = images.shape
    if not shrink:
        height, width = 2 * height, 2 * width
    if min(height, width) < 2:
        raise InputError(
            f"Mosaic: a mosaic has sides of at least 2 pixels; got {height} x {width}."
        )
    if others.shape[2] != channels:
        raise InputError(
            f"Mosaic: the images in others have {others.shape[2]} channels, and the images to "
            f"explain {channels}."
        )
    mosaics = images.new_empty(batch, channels, height, width)
    # by size: all quarters have the same, except for odd sides
    shrunk: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for quarter, (rows, columns) in enumerate(quarters(height, width)):
        size = (rows.stop - rows.start, columns.stop - columns.start)
        if size not in shrunk:
            small = _shrunk(others.flatten(0, 1), size).view(batch, 3, channels, *size)
            shrunk[size] = _shrunk(images, size), small
        own, parts = shrunk[size]
        mine = (places == quarter).to(images.device)
        index = (quarter - (places < quarter).long()).clamp(0, 2).to(images.device)
        theirs = parts[torch.arange(batch, device=images.device), index]
        mosaics[:, :, rows, columns] = torch.where(mine[:, None, None, None], own, theirs)
    return mosaics


def quarter_masks(places: Tensor, like: Mask) -> Tensor:
    """True in each mosaic's own quarter, (B, 1, H, W)."""
    masks = torch.zeros_like(like, dtype=torch.bool)
    for row, place in enumerate(places.tolist()):
        rows, columns = quarters(*like.shape[2:])[place]
        masks[row, :, rows, columns] = True
    return masks


def quarters(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the four images of a mosaic, row by row."""
    down = (slice(0, height // 2), slice(height // 2, height))
    across = (slice(0, width // 2), slice(width // 2, width))
    return [(rows, columns) for rows in down for columns in across]


def _shrunk(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
