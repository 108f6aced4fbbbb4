"""Feature ablation: replace each region of the picture in turn and see how far the answer falls."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core import class_scores, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.normalize import mask_from_attributions, probabilities
from saliencykit.networks.incremental.receptive_cone import Windows
from saliencykit.networks.incremental.window_logits import Filled, WindowLogits

_MEAN = Constant(color="mean")
_ROUNDING = 1e-5  # of the largest probability: a map below it says nothing, the answers are float32


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureAblation(Masker):
    """Regions of the picture replaced in turn; a pixel's score is the drop of the label's
    probability without its region.

    Good with superpixels, whose edges are the picture's own, or with any parts that have a meaning:
    one evaluation per region, no gradients, and a score is a probability. Like occlusion it finds
    what is necessary on its own, and of evidence that is there twice it finds neither. A plain grid
    of cells is coarser than `occlusion`, whose windows overlap.

    The mask is the positive part of the scores divided by its maximum. Of a torch model only what a
    region can change is computed where its graph allows that, to the same numbers but for rounding;
    see `saliencykit.networks.incremental`.

    Args:
        regions: Whole numbers that name each pixel's region, a tensor or array (H, W) or (1, 1, H,
            W) for all pictures or (B, 1, H, W), one map per picture. They need not be consecutive.
            None: a grid.
        grid_size: Of the grid, per side, or (down, across), >= 1; not used with `regions`. Cells differ
            by at most a pixel.
        alternative: What stands in the region. By default the picture's own mean colour; one that
            draws (noise, a choice) is drawn once per picture, so that regions are compared with
            equal fills.

    Raises:
        InputError: Regions are not whole numbers in one of these shapes, a number is out of range,
            or the regions do not fit the pictures.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> FeatureAblation(grid_size=4)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Zeiler & Fergus 2014, section 4.2, for windows; Ribeiro et al. 2016, "Why Should I Trust
        You?", section 3.4, for superpixels as what is switched off. The same numbers as Captum's
        `FeatureAblation` of a softmax with `feature_mask=regions`.
    """

    regions: Any = None
    grid_size: int | tuple[int, int] = 7
    alternative: Alternative = _MEAN

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.regions is not None:
            _as_maps(self.regions)
        cells = (
            self.grid_size
            if isinstance(self.grid_size, tuple)
            else (self.grid_size, self.grid_size)
        )
        if len(cells) != 2 or not all(isinstance(n, int) and n >= 1 for n in cells):
            raise InputError(
                f"FeatureAblation(grid_size={self.grid_size!r}): a whole number >= 1, or two of them, "
                "(down, across)."
            )
        if not isinstance(self.alternative, Alternative):
            raise InputError(
                f"FeatureAblation(alternative={self.alternative!r}) takes an Alternative, such as "
                "Constant(color='mean')."
            )

    def __eq__(self, other: object) -> bool:
        """The same regions, by value, and the same settings."""
        if not isinstance(other, FeatureAblation):
            return NotImplemented
        mine, theirs = (None if m.regions is None else _as_maps(m.regions) for m in (self, other))
        same = mine is theirs or (
            mine is not None and theirs is not None and torch.equal(mine, theirs)
        )
        return same and (self.grid_size, self.alternative) == (other.grid_size, other.alternative)

    def __hash__(self) -> int:
        return hash((self.grid_size, self.alternative))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Scores in units of probability, and their positive part as the mask."""
        maps = self._maps(images)
        seed = rng.seed(generator)
        black_box, alternative = (
            black_box.optimized_for(images),
            self.alternative.for_black_box(black_box),
        )
        scores, floors, ask = [], [], None
        for row, (image, label) in enumerate(zip(images[:, None], labels[:, None], strict=True)):
            if row < len(
                maps
            ):  # else all pictures share the first one's regions, and what is known of their cones
                numbers, count = _numbered(maps[row])
                windows = _bounds(numbers, count)
                ask = WindowLogits(black_box, windows, black_box.max_batch)
            assert ask is not None
            fill = shared_fill(alternative, image, Generator().manual_seed(seed))
            if fill is None:
                answers = _one_by_one(black_box, image, label, numbers, count, alternative, seed)
            else:
                logits = ask(Filled(image, fill, windows, numbers))
                answers = class_scores.probability(logits, label.expand(len(logits)))
            scores.append((answers[0] - answers[1:])[numbers])
            floors.append(answers.max() * _ROUNDING)
        stacked = torch.stack(scores)[:, None]
        return MaskerOutput(mask_from_attributions(stacked, torch.stack(floors)), stacked)

    def _maps(self, images: Images) -> Tensor:
        """The regions, (1, H, W) or (B, H, W), where the images are."""
        batch, _, height, width = images.shape
        if self.regions is None:
            down, across = (
                self.grid_size
                if isinstance(self.grid_size, tuple)
                else (self.grid_size, self.grid_size)
            )
            rows, columns = (
                torch.arange(side) * min(n, side) // side
                for side, n in ((height, down), (width, across))
            )
            return (rows[:, None] * across + columns)[None].to(images.device)
        maps = _as_maps(self.regions).to(images.device)
        if maps.shape[1:] != (height, width) or len(maps) not in (1, batch):
            raise InputError(
                f"FeatureAblation has regions for {len(maps)} pictures of {maps.shape[1]} x "
                f"{maps.shape[2]} and got {batch} of {height} x {width}; give one map (H, W), or "
                "one per picture (B, 1, H, W)."
            )
        return maps


def _as_maps(regions: Any) -> Tensor:
    """The given regions as (n, H, W)."""
    maps = torch.from_numpy(regions) if isinstance(regions, np.ndarray) else regions
    whole = isinstance(maps, Tensor) and not maps.is_floating_point() and not maps.is_complex()
    if (
        not whole
        or not (maps.ndim == 2 or (maps.ndim == 4 and maps.shape[1] == 1))
        or 0 in maps.shape
    ):
        came = (
            f"{maps.dtype} of shape {tuple(maps.shape)}"
            if isinstance(maps, Tensor)
            else name_of(regions)
        )
        raise InputError(
            f"FeatureAblation(regions=...) takes whole numbers (H, W) or (B, 1, H, W); got {came}."
        )
    return maps.long().reshape(-1, *maps.shape[-2:])


def _numbered(regions: Tensor) -> tuple[Tensor, int]:
    """The same regions with the numbers 0 to n - 1, and n."""
    names, numbers = torch.unique(regions, return_inverse=True)
    return numbers, len(names)


def _bounds(numbers: Tensor, count: int) -> Windows:
    """The smallest rectangle around each region."""
    flat, ends = numbers.flatten().cpu(), []
    height, width = numbers.shape
    for places, side in (
        (torch.arange(height)[:, None].expand(height, width), height),
        (torch.arange(width).expand(height, width), width),
    ):
        first = torch.full((count,), side).scatter_reduce(0, flat, places.flatten(), "amin")
        last = torch.zeros(count, dtype=torch.long).scatter_reduce(
            0, flat, places.flatten(), "amax"
        )
        ends += [first.numpy(), last.numpy() + 1]
    return Windows(*ends)


def _one_by_one(
    black_box: BlackBox,
    image: Images,
    label: Tensor,
    numbers: Tensor,
    count: int,
    alternative: Alternative,
    seed: int,
) -> Tensor:
    """The label's probability in the picture itself and in each edit by an alternative that looks
    at the mask, (1 + n,).
    """
    step, answers = micro_batch(black_box), []
    for first in range(-1, count, step):
        which = torch.arange(first, min(first + step, count), device=numbers.device)
        masks: Mask = (numbers != which[:, None, None])[:, None].to(image.dtype)
        edits = alternative.edit(
            image.expand(len(masks), -1, -1, -1), masks, Generator().manual_seed(seed)
        )
        answers.append(probabilities(black_box, edits, label))
    return torch.cat(answers)
