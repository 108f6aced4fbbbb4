"""SmallestRegions: how much of each image is enough for its decision, or must go to lose it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry, boxes_in_source
from saliencykit.core.nested_masks import pixel_order
from saliencykit.core.output import Output, reported
from saliencykit.core.types import Images, PerImage
from saliencykit.metrics.ranking import ranks
from saliencykit.metrics.region_search import RegionForm, RegionSearch
from saliencykit.runs.batch_runner import BatchResult
from saliencykit.visualization.captions import as_text

KINDS = ("sufficient", "destroying")
"""The fields of an Explanation that hold regions, and the arguments of `explain` for them."""
_LIMITS = {"sufficient": 0.9, "destroying": 0.1}  # of the whole image's probability


@final
@dataclass(frozen=True)
class SmallestRegions:
    """The smallest regions of B images, among those that were queried, in the order of the masks.

    Attributes:
        mask: (B, 1, H, W) bool; nothing where no region meets the condition.
        area: Fraction of the pixels in it, (B,); NaN where none does; 0 where the label keeps its
            probability without any pixel of the image.
        probability: Of the label with only the region visible, or with it removed, (B,); for
            scores the score. NaN where none meets the condition.
        boxes: Its bounding box in the source image, (B, 4): x0, y0, x1, y1 in pixels, x1 and y1
            exclusive; NaN where the region is empty.
        limit: The condition: at least, or at most, this fraction of the whole image's probability.
        form: `mask`, or `crop`: each region is a rectangle.
        queries: How many times the model was queried for each image.

    Example:
        >>> from saliencykit import explain
        >>> from saliencykit.testing import PlantedEvidence
        >>> images, labels = PlantedEvidence().examples(1, generator=Generator().manual_seed(0))
        >>> options = {"masker": "rise:samples=200", "sufficient": 0.9}
        >>> regions = explain(PlantedEvidence(), images, labels, **options).sufficient
        >>> regions.area.item() < 0.2, regions.probability.item() > 0.9, regions.queries
        (True, True, 10)
    """

    mask: Tensor
    area: PerImage
    probability: PerImage
    boxes: Tensor
    limit: float = 0.9
    form: RegionForm = "mask"
    queries: int = 0

    @property
    def found(self) -> Tensor:
        """Did a region meet the condition? (B,) bool."""
        return ~self.area.isnan()

    def numbers(self, index: int) -> dict[str, Any]:
        """Area, probability, bounding box and number of queries of one image, as JSON; None where
        there is no region.

        Args:
            index: Which image, in [0, B).
        """
        values = {"area": self.area[index], "probability": self.probability[index]}
        row: dict[str, Any] = {
            name: None if bool(value.isnan()) else float(value) for name, value in values.items()
        }
        bbox = self.boxes[index]
        row["bbox"] = None if bool(bbox.isnan().any()) else bbox.tolist()
        return row | {"form": self.form, "queries": self.queries}

    def words(self, index: int, kind: str, output: Output) -> str:
        """A clause about an image.

        Args:
            index: Which image, in [0, B).
            kind: `sufficient` or `destroying`.
            output: What the probability is, or the score.
        """
        keeps, area = kind == "sufficient", float(self.area[index])
        if area != area or area == 0:
            what = "nothing is needed" if keeps else "no region is necessary"
            return f"{what}, the class stays without any of the image's pixels"
        reached = as_text(float(self.probability[index]), output)
        if not keeps:
            box = " in a rectangle" if self.form == "crop" else ""
            return f"removing {area:.1%} of the pixels{box} leaves {reached}"
        if self.form == "crop":
            return f"a crop of {area:.1%} of the image is enough for {reached}"
        return f"{area:.1%} of the pixels are enough for {reached}"


def searches_for(
    sufficient: bool | float, destroying: bool | float, form: RegionForm
) -> dict[str, RegionSearch]:
    """The searches that arguments of `explain` want, by kind.

    Raises:
        InputError: A number is outside (0, 1), or the form is unknown.
    """
    searches = {}
    for kind, wanted in zip(KINDS, (sufficient, destroying), strict=True):
        if wanted is False or wanted is None:
            continue
        limit = _LIMITS[kind] if wanted is True else wanted
        if not isinstance(limit, int | float) or not 0 < limit < 1:
            raise InputError(
                f"{kind}={wanted!r}: write True, or the fraction of the whole image's probability "
                f"in (0, 1), such as {_LIMITS[kind]}."
            )
        searches[kind] = RegionSearch(kind == "sufficient", limit, form=form)
    return searches


def region_tensors(
    searches: Mapping[str, RegionSearch],
    black_box: BlackBox,
    images: Images,
    result: BatchResult,
    *,
    fill: Alternative,
    seed: int,
) -> dict[str, Tensor]:
    """Masks, areas and probabilities of all searches for a batch, by kind and name.

    Args:
        searches: By kind.
        black_box: Is queried.
        images: (B, C, H, W) on its device.
        result: Labels and masks, whose order counts.
        fill: Replaces pixels.
        seed: Random seed.
    """
    if not searches:
        return {}
    output, labels, tensors = result.output, result.labels, {}
    places = ranks(pixel_order(output.mask, output.attributions))
    for kind, search in searches.items():
        generator = Generator().manual_seed(seed)
        with torch.no_grad():
            found = search(black_box, images, labels, places, alternative=fill, generator=generator)
        shown = reported(found.logits.nan_to_num(), labels, black_box.output)
        tensors[f"{kind}.mask"] = found.inside
        tensors[f"{kind}.area"] = found.area
        tensors[f"{kind}.probability"] = shown.where(~found.area.isnan(), float("nan"))
    return tensors


def smallest_regions(
    tensors: dict[str, Any],
    searches: Mapping[str, RegionSearch],
    geometries: Sequence[Geometry | None],
    output: Output,
) -> dict[str, SmallestRegions]:
    """The regions of all images, by kind; takes their tensors out of those of the images."""
    regions = {}
    for kind, search in searches.items():
        mask, area, probability = (
            tensors.pop(f"{kind}.{name}") for name in ("mask", "area", "probability")
        )
        boxes = boxes_in_source(mask, geometries)
        boxes[~mask.flatten(1).any(1)] = float("nan")
        count = search.queries(mask[0].numel(), scores=output == "score")
        regions[kind] = SmallestRegions(
            mask, area, probability, boxes, search.limit, search.form, count
        )
    return regions
