"""Feature ablation: replace one region after another and measure how far the probability drops."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from scipy.ndimage import find_objects  # type: ignore[import-untyped]
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.maskers.perturbation.region_drops import RegionDrops
from saliencykit.maskers.query_engine import masked_queries
from saliencykit.networks.incremental.filled_windows import Windows

_MEAN = Constant(color="mean")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureAblation(Masker):
    """Replaces one region of the image after another. The attribution of a pixel is the drop of
    p(label) without its region.

    Good with superpixels, whose edges are those of the image, or with any parts that have a
    meaning: one query per region, no gradients, and an attribution is a difference of
    probabilities. Like occlusion it shows what is necessary on its own, and of evidence that is
    there twice neither copy. On a plain grid it is coarser than `occlusion`, whose windows overlap.

    The mask is the positive part of the attributions divided by their maximum. For a torch model
    only what a region can change is recomputed where the graph allows it, with the same result up
    to rounding; see `saliencykit.networks.incremental`.

    Args:
        regions: Integers that name the region of each pixel: a tensor or array (H, W) or
            (1, 1, H, W) for all images, or (B, 1, H, W) with one map per image. They need not be
            consecutive. None: a grid.
        grid_size: Cells of the grid per side, or (rows, columns), >= 1; not used with `regions`.
            Cell sizes differ by at most one pixel.
        alternative: What replaces a region. By default the mean color of the image. A random one
            (noise, a choice) is drawn once per image, so that all regions get the same fill.

    Raises:
        InputError: Regions are not integers in one of these shapes, a number is out of range, or
            the regions do not fit the images.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> FeatureAblation(grid_size=4)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Zeiler & Fergus 2014, section 4.2, for windows; Ribeiro et al. 2016, "Why Should I Trust
        You?", section 3.4, for superpixels that are switched off. The same numbers as Captum's
        `FeatureAblation` of a softmax with `feature_mask=regions`.
    """

    regions: Any = None
    grid_size: int | tuple[int, int] = 7
    alternative: Alternative = _MEAN

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.regions is not None:
            _region_maps(self.regions)
        grid = self._grid
        if len(grid) != 2 or not all(isinstance(n, int) and n >= 1 for n in grid):
            raise InputError(
                f"FeatureAblation(grid_size={self.grid_size!r}): expected an integer >= 1, or two "
                "of them, (rows, columns)."
            )

    def __eq__(self, other: object) -> bool:
        """The same regions, by value, and the same settings."""
        if not isinstance(other, FeatureAblation):
            return NotImplemented
        settings = (self.grid_size, self.alternative) == (other.grid_size, other.alternative)
        if self.regions is None or other.regions is None:
            return settings and self.regions is other.regions
        return settings and torch.equal(_region_maps(self.regions), _region_maps(other.regions))

    def __hash__(self) -> int:
        return hash((self.grid_size, self.alternative))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Attributions in units of probability, and their positive part as the mask."""
        maps, attributions, floors = self._maps(images), [], []
        every = masked_queries(black_box, images, labels, self.alternative, generator)
        for row, queries in enumerate(every):
            if row < len(maps):  # else the regions, and what is known of them, are shared
                regions = torch.unique(maps[row], return_inverse=True)[1]
                drops_of = RegionDrops(_bounding_windows(regions), regions)
            drops, floor = drops_of(queries)
            attributions.append(drops[regions])
            floors.append(floor)
        stacked = torch.stack(attributions)[:, None]
        return MaskerOutput(mask_from_attributions(stacked, torch.stack(floors)), stacked)

    @property
    def _grid(self) -> tuple[int, ...]:
        return self.grid_size if isinstance(self.grid_size, tuple) else (self.grid_size,) * 2

    def _maps(self, images: Images) -> Tensor:
        """The regions of all images, (1, H, W), or of each, (B, H, W), on their device."""
        batch, _, height, width = images.shape
        if self.regions is None:
            rows, columns = (
                torch.arange(side, device="cpu") * min(n, side) // side
                for side, n in zip((height, width), self._grid, strict=True)
            )
            return (rows[:, None] * width + columns)[None].to(images.device)
        maps = _region_maps(self.regions).to(images.device)
        if maps.shape[1:] != (height, width) or len(maps) not in (1, batch):
            raise InputError(
                f"FeatureAblation has regions for {len(maps)} images of {maps.shape[1]} x "
                f"{maps.shape[2]} and got {batch} of {height} x {width}; pass one map (H, W), or "
                "one per image (B, 1, H, W)."
            )
        return maps


def _region_maps(regions: Any) -> Tensor:
    """The given regions as (n, H, W)."""
    maps = torch.from_numpy(regions) if isinstance(regions, np.ndarray) else regions
    got = name_of(regions)
    if isinstance(maps, Tensor):
        got = f"{maps.dtype} of shape {tuple(maps.shape)}"
        shaped = maps.ndim == 2 or (maps.ndim == 4 and maps.shape[1] == 1)
        if shaped and maps.numel() and not (maps.is_floating_point() or maps.is_complex()):
            return maps.long().reshape(-1, *maps.shape[-2:])
    raise InputError(
        f"FeatureAblation(regions=...): expected integers (H, W) or (B, 1, H, W); got {got}."
    )


def _bounding_windows(regions: Tensor) -> Windows:
    """The bounding box of each region; the regions are numbered from 0 without gaps."""
    boxes = find_objects(regions.cpu().numpy() + 1)
    return Windows(*np.array([(y.start, y.stop, x.start, x.stop) for y, x in boxes]).T)
