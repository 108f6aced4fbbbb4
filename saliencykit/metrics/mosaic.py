"""Mosaic: four pictures in one, and only one of them shows the class: ground truth without boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.class_scores import probability
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Images, Labels, Mask, PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Mosaic(Metric):
    """How much of the mask's mass lies on the right one of four pictures? Higher is better; chance
    is 0.25.

    The picture is shrunk to a quarter of the input, and three pictures of three other classes fill
    the other quarters (or, with `shrink=False`, all keep their size, and the mosaic is twice as
    high and wide as the input); the masker is asked about the picture's class in the mosaic, and
    `share` is the mass of its mask in the right quarter, divided by all. Needs no boxes, and the
    answer is exact. But a mosaic is not a photo, its parts are smaller than what the model was
    trained on, and a mask may rightly cover little of its quarter; `probability`, the label's in
    the mosaic, says whether the question was fair. An empty mask has a share of 0.25, as a constant
    one. The mask of the whole picture is not looked at.

    On 20 photos with MobileNetV2, which gives labels 0.58 on average (median in brackets): in
    shrunk mosaics 0.04 (0.001), and Grad-CAM's share is 0.57; in mosaics of full size, where the
    mean over all places lets no class be certain, 0.014 (0.013), and the share is 0.69. There the
    question is fairer, but the model and masker must take it, and it costs four times as much.

    The other pictures are drawn for each picture from a fixed set, never from the batch, so that a
    row does not depend on its neighbours. Without a set, or where it has no three pictures of three
    other classes, both values are NaN.

    Args:
        others: Pictures and their classes, of any size, (n, C, h, w); best ones of which the model
            is certain. None: `for_data` takes them from the data set, which `evaluate` asks for.
        shrink: True: the mosaic has the size of the input, which every model and masker takes.
            False: its parts have, as published; objects look as large as the model knows them, but
            it must take pictures of twice the size, and averages over four.

    Raises:
        InputError: The set is empty; or the model does not take pictures of twice the size.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(8, generator=g))
        >>> scores = Mosaic(others=sample)(black_box, sample, torch.ones(8, 1, 16, 16), explain=black_box.evidence, generator=g)
        >>> scores["share"].shape
        torch.Size([8])

    References:
        Böhle et al. 2021, "Convolutional Dynamic Alignment Networks for Interpretable
        Classifications", section 4.2; the grid pointing game. Theirs puts pictures of full size
        into a larger one, which only some models take.
    """

    others: Sample | None = field(default=None, repr=False, compare=False)
    shrink: bool = True

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that there is something in the set."""
        if self.others is not None and not len(self.others.images):
            raise InputError(
                "Mosaic(others=...) takes at least one picture; three of other classes are needed."
            )

    def for_data(self, sample: Sample) -> "Mosaic":
        """The same metric with these pictures for its mosaics, unless it has some."""
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
        """Share and probability, in [0, 1]. One query and one more explanation per image that has a
        mosaic.
        """
        share, sure = mask.new_full((2, len(mask)), float("nan"))
        order = self._order(sample, generator)
        partners, places = order if order is not None else (None, None)
        if self.others is None or partners is None or places is None:
            return {"share": share, "probability": sure}
        able = (partners >= 0).all(1).nonzero().flatten()
        if len(able):
            rows = able.to(mask.device)
            images, labels = sample.images[rows], sample.labels[rows]
            quarters = self.others.images[partners[able]].to(images)
            mosaics = lay_out(images, quarters, places[able], shrink=self.shrink)
            sure[rows] = self._probability(black_box, mosaics, labels).to(mask.dtype)
            found = explain(mosaics, labels).to(mask.dtype)
            found = torch.where(
                found.amax((1, 2, 3), keepdim=True) == 0, torch.ones_like(found), found
            )
            own = quarter_masks(places[able], found)
            share[rows] = (found * own).sum((1, 2, 3)) / found.sum((1, 2, 3))
        return {"share": share, "probability": sure}

    def _probability(self, black_box: BlackBox, mosaics: Images, labels: Labels) -> PerImage:
        try:
            return probability(black_box(mosaics), labels)
        except InputError as error:
            if self.shrink:
                raise
            size = f"{mosaics.shape[2]} x {mosaics.shape[3]}"
            raise InputError(
                f"Mosaic(shrink=False) needs a model that takes pictures of {size}; write "
                f"shrink=True. {error}"
            ) from error

    def _order(self, sample: Sample, generator: Generator) -> tuple[Tensor, Tensor] | None:
        """For each picture the rows (B, 3) of its partners in the set, -1 where there are too few,
        and its own quarter (B,).
        """
        count = 0 if self.others is None else len(self.others.images)
        drawn = rng.uniform(sample.images.float(), (count + 1,), generator=generator).cpu()
        if self.others is None:
            return None
        classes = self.others.labels.tolist()
        partners = torch.full((len(drawn), 3), -1)
        for row, (own, order) in enumerate(
            zip(sample.labels.tolist(), drawn[:, 1:].argsort(1).tolist(), strict=True)
        ):
            taken = dict[int, int]()
            for candidate in order:
                if classes[candidate] != own:
                    taken.setdefault(classes[candidate], candidate)
            if len(taken) >= 3:
                partners[row] = torch.tensor(list(taken.values())[:3])
        return partners, (drawn[:, 0] * 4).long().clamp_max(3)


def lay_out(images: Images, others: Tensor, places: Tensor, *, shrink: bool = True) -> Images:
    """2 x 2 mosaics of the size of the images, each part shrunk with antialiasing, its aspect ratio
    kept but for odd sides.

    Args:
        images: (B, C, H, W), H and W >= 2.
        others: (B, 3, C, h, w): in reading order in the quarters that are left.
        places: (B,) in 0..3: the image's own quarter, in reading order.
        shrink: False: mosaics of twice the size; only others of another size than the images' are
            brought to it.
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
            f"Mosaic: the pictures in others have {others.shape[2]} channels, and the images "
            f"{channels}."
        )
    mosaics = images.new_empty(batch, channels, height, width)
    shrunk: dict[
        tuple[int, int], tuple[Tensor, Tensor]
    ] = {}  # all quarters are alike but for odd sides
    for quarter, (rows, columns) in enumerate(_quarters(height, width)):
        size = (rows.stop - rows.start, columns.stop - columns.start)
        if size not in shrunk:
            shrunk[size] = (
                _shrunk(images, size),
                _shrunk(others.flatten(0, 1), size).view(batch, 3, channels, *size),
            )
        small, parts = shrunk[size]
        mine = (places == quarter).to(images.device)
        index = (quarter - (places < quarter).long()).clamp(0, 2).to(images.device)
        theirs = parts[torch.arange(batch, device=images.device), index]
        mosaics[:, :, rows, columns] = torch.where(mine[:, None, None, None], small, theirs)
    return mosaics


def quarter_masks(places: Tensor, like: Mask) -> Tensor:
    """True in each mosaic's own quarter, (B, 1, H, W)."""
    masks = torch.zeros_like(like, dtype=torch.bool)
    for row, place in enumerate(places.tolist()):
        rows, columns = _quarters(*like.shape[2:])[place]
        masks[row, :, rows, columns] = True
    return masks


def _quarters(height: int, width: int) -> list[tuple[slice, slice]]:
    down = (slice(0, height // 2), slice(height // 2, height))
    across = (slice(0, width // 2), slice(width // 2, width))
    return [(rows, columns) for rows in down for columns in across]


def _shrunk(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
