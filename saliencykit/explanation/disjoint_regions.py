"""Several masks of one image: of several classes, and of several regions that show one class."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.nested_masks import budget_masks, pixel_order
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.runs.batch_runner import BatchResult, verified


def explain_regions(
    black_box: BlackBox,
    masker: Masker,
    images: Images,
    choose_labels: Callable[[Logits], Labels],
    *,
    regions: int,
    fill: Alternative,
    verify: bool,
    seed: int,
) -> list[BatchResult]:
    """Explain each label of an image, each by regions that do not overlap.

    Each further region is found on the image with the former ones replaced, and `M_k` is limited to
    what they leave: `M_k * (1 - M_1 - ... - M_k-1)`, so that the masks of a label sum to at most 1.
    With a budget it is the best of what they leave. Each is verified on the whole image. Several
    labels share the prediction, and a masker's `one_pass`.

    Args:
        black_box: The classifier.
        masker: Made ready for it.
        images: (B, C, H, W) on the black box's device.
        choose_labels: From the logits to the labels, (B, n).
        regions: Regions per label, >= 1.
        fill: Replaces the regions that are found.
        verify: Query the black box with each region kept and dropped.
        seed: Random seed; each label gets the same mask alone and among others.

    Returns:
        n * `regions` results for the B images: the regions of the first label, of the second, ...
    """
    first, logits = masker.predict_masker(black_box, images)
    results = []
    for labels in choose_labels(logits).unbind(1):
        current, left = first, images
        free = images.new_ones(len(images), 1, *images.shape[2:])
        for region in range(regions):
            generator = Generator().manual_seed(seed)
            if region:
                with torch.no_grad():
                    left = fill.edit(images, free, generator)
                current = masker.predict_masker(black_box, left)[0]
            output = current.attribute(black_box, left, labels, generator=generator)
            if region:
                output = _limited(output, free, current.budget)
            free = free - output.mask
            result = BatchResult(logits, labels, output)
            if verify:
                result = verified(result, black_box, images, fill, generator)
            results.append(result)
    return results


def _limited(output: MaskerOutput, free: Mask, budget: float | None) -> MaskerOutput:
    """The output with a mask that is limited to the free pixels."""
    mask = output.mask
    if budget is not None:  # of the area that was wanted, however much is not free
        order = (pixel_order(mask, output.attributions) + 1) * free
        mask = budget_masks(order, (budget,)).to(mask.dtype)
    return replace(output, mask=mask * free, low_res_mask=None, box_threshold=None)
