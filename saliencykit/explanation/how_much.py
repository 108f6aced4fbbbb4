"""How much of an image is enough for a decision, and how much must go to lose it."""

from typing import Any

from saliencykit.explanation.explain_images import explain
from saliencykit.explanation.smallest_regions import SmallestRegions
from saliencykit.metrics.region_search import RegionForm


def smallest_sufficient_region(
    model: object,
    image: Any,
    label: Any = None,
    *,
    keep: float = 0.9,
    form: RegionForm = "mask",
    **options: Any,
) -> SmallestRegions:
    """The smallest region that is enough: the best pixels of a mask, as few as keep the decision.

    The number of pixels is bisected, at 10 queries per image (12 for scores). More pixels do not
    always mean a higher probability: of the regions that were queried it is the smallest that is
    enough.

    Args:
        model: As for `explain`.
        image: As for `explain`.
        label: As for `explain`.
        keep: The fraction of the whole image's probability that the region must keep, in (0, 1).
        form: `mask`: the pixels themselves. `crop`: their bounding box, enlarged to the input.
        **options: Of `explain`, such as `masker` and `alternative`.

    Raises:
        InputError: An argument cannot be used, see `explain`.

    Warns:
        ReliabilityWarning: The class stays without any pixel of the image.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> region = smallest_sufficient_region(black_box, images, labels, masker="rise:samples=99")
        >>> bool(region.found.all()), bool((region.area < 0.3).all())
        (True, True)

    References:
        Dabkowski & Gal 2017, section 2, "smallest sufficient region".
    """
    options |= {"sufficient": keep, "region_form": form, "verify": False}
    regions = explain(model, image, label, **options).sufficient
    assert regions is not None
    return regions


def smallest_destroying_region(
    model: object,
    image: Any,
    label: Any = None,
    *,
    leave: float = 0.1,
    form: RegionForm = "mask",
    **options: Any,
) -> SmallestRegions:
    """The smallest region whose removal loses the decision: the best pixels of a mask, as few as it
    takes.

    Arguments and search are those of `smallest_sufficient_region`. No region may do: then its area
    is NaN, and a warning says so.

    Args:
        model: As for `explain`.
        image: As for `explain`.
        label: As for `explain`.
        leave: The fraction of the whole image's probability that may be left, in (0, 1).
        form: `mask`: the pixels themselves. `crop`: all pixels of their bounding box.
        **options: Of `explain`, such as `masker` and `alternative`.

    Raises:
        InputError: An argument cannot be used, see `explain`.

    Warns:
        ReliabilityWarning: The class stays without any pixel of the image.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(1, generator=g)
        >>> options = {"leave": 0.5, "masker": "rise:samples=99"}
        >>> smallest_destroying_region(black_box, images, labels, **options).found.item()
        True

    References:
        Dabkowski & Gal 2017, section 2, "smallest destroying region".
    """
    options |= {"destroying": leave, "region_form": form, "verify": False}
    regions = explain(model, image, label, **options).destroying
    assert regions is not None
    return regions
