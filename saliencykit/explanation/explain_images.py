"""explain(): the pixels that a decision depends on."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from saliencykit.black_boxes.contrast import Contrast
from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.black_boxes.repeated import averaged
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.core.masker import Masker
from saliencykit.core.output import Output
from saliencykit.core.types import Target
from saliencykit.data.images import as_images
from saliencykit.explanation.doubts import doubts
from saliencykit.explanation.given_labels import label_lists
from saliencykit.explanation.image_run import ImageRun
from saliencykit.explanation.query_progress import Progress, reporting
from saliencykit.explanation.result import Explanation
from saliencykit.explanation.smallest_regions import searches_for
from saliencykit.explanation.targeted import with_target
from saliencykit.maskers.optimization.iterative import Iterative
from saliencykit.metrics.region_search import RegionForm
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker

_Label: TypeAlias = int | str | None


def explain(
    model: object,
    image: Any,
    label: _Label | Tensor | Sequence[_Label | Sequence[_Label]] = None,
    *,
    masker: Masker | str | None = None,
    refine: int = 0,
    budget: float | None = None,
    alternative: Alternative | str | None = None,
    output: Output | None = None,
    target: Contrast | Target | None = None,
    regions: int = 1,
    sufficient: bool | float = False,
    destroying: bool | float = False,
    region_form: RegionForm = "mask",
    inputs: Literal["auto", "raw", "normalized"] = "auto",
    pixel_range: tuple[float, float] | None = None,
    verify: bool = True,
    repeats: int = 1,
    seed: int = 0,
    progress: Progress = False,
) -> Explanation:
    """Find the pixels that a classifier's decision depends on, and verify them by querying the
    classifier again.

    Args:
        model: A torch module, a function from numpy (B, H, W, C) to (B, K), a name
            (`timm:resnet18`, `torchvision:mobilenet_v2`, `demo`), or a BlackBox.
        image: A path, a PIL image, a numpy array (H, W, C), a tensor (C, H, W) or (B, C, H, W),
            or a list of these.
        label: The class to explain: its index, its name, or one of these per image. Several
            classes of each image as lists, `[[281, "tiger cat"]]`. None: the model's top class.
        masker: The attribution method: a Masker, a text like `rise:samples=500`, or the file of a
            trained masker. None: the one trained for exactly this model, if there is one; else
            `iterative`, or `rise` if the model is query-only.
        refine: Steps of `iterative` that start from the masker's mask; ten are a good number. 0:
            none.
        budget: Area of every mask, a fraction of the pixels in (0, 1): the best ones in the
            masker's own order. None: the area that the masker chooses.
        alternative: Replaces pixels in the verification: an Alternative or a text like
            `blur:sigma=11`. None: blur.
        output: What a column of the model's output means: `softmax` (an exclusive class), `sigmoid`
            (a label on its own: multi-label) or `score` (a number without a scale: regression,
            similarity). None: `softmax`, or what the black box says.
        target: Something else than a class: a callable from what the model returns to scores (B,)
            or (B, K), such as `Similarity`, `SegmentationClass` or `DetectionScore`; or a
            `Contrast` of two classes.
        regions: How many regions that do not overlap, each found with the former ones replaced.
        sufficient: Search the smallest region that is enough, for about 10 queries: with only it
            visible the label has at least this fraction of the whole image's probability. True:
            0.9.
        destroying: Search the smallest region whose removal leaves at most this fraction. True:
            0.1.
        region_form: Of these two: `mask`: the best pixels of the mask. `crop`: their bounding box,
            cropped and enlarged, as in the paper's metric.
        inputs: What tensors contain: `raw`: RGB in [0, 1]; `normalized`: what `model(x)` takes;
            `auto`: `normalized` unless a BlackBox or a name was given. Image files are always raw.
        pixel_range: The values of black and white in raw images of more than 8 bits, such as `(0,
            4095)`. None: what the file declares, else a guess with a warning.
        verify: Query the model with the mask kept and with the mask replaced, and twice with the
            first image, to see whether it is deterministic.
        repeats: Queries to average wherever the model is queried, for models that are not
            deterministic; see `RepeatedQueries`.
        seed: Random seed. An image gets the same mask alone and in a batch.
        progress: Show a progress bar (tqdm; a widget in notebooks)? Or a function, called after
            each query with the numbers of evaluations so far and of all, or None where that is
            unknown.

    Returns:
        An Explanation of the B images, on the CPU; with several classes or regions an image has a
        row for each: all regions of its first class, of the second, ...

    Raises:
        InputError: The model, image or label cannot be used; the message names the image and says
            what to write.
        GradientError: The masker needs gradients and the model is query-only.
        RegistryError: A name is unknown.
        ContractError: The model or a plugin returned what its contract forbids.

    Warns:
        ReliabilityWarning: A mask is constant, or its verdict is `neither` or `saturated`; or the
            model answers the same query differently.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> explanation = explain(model, torch.rand(3, 32, 32), 2, masker="iterative:steps=3")
        >>> explanation.mask.shape
        torch.Size([1, 1, 32, 32])

    References:
        Dabkowski & Gal 2017, "Real Time Image Saliency for Black Box Classifiers".
    """
    started = time.perf_counter()
    black_box = with_pixel_range(as_black_box(model, output), pixel_range)
    batch = as_images(
        image, black_box, inputs=inputs, given_black_box=isinstance(model, BlackBox | str)
    )
    if batch.inputs == "normalized":
        black_box = black_box.without_preprocessing()
    if target is not None:
        if output is not None and not isinstance(target, Contrast):
            raise InputError(
                f"explain(output={output!r}, target=...): the result of a target is a score, "
                "whatever the model's own output means; leave output= out, or make the classes the "
                "model's own output with a small nn.Module that returns them."
            )
        black_box = with_target(black_box, target)
        label = target.label if isinstance(target, Contrast) and label is None else label
    black_box = averaged(black_box, repeats)
    chosen = default_masker(black_box, regions) if masker is None else as_masker(masker)
    chosen = chosen.bound_to(black_box, inputs=batch.inputs)
    chosen = (Iterative(steps=refine, start=chosen) if refine else chosen).with_budget(budget)
    fill = as_alternative("blur" if alternative is None else alternative).for_black_box(black_box)
    checks.seed(seed, "explain")
    checks.counts("explain", regions=regions)
    labels = label_lists(label, len(batch))
    searches = searches_for(sufficient, destroying, region_form)
    run = ImageRun(black_box, chosen, batch, labels, regions, fill, verify, seed, repeats, searches)
    counted = reporting(black_box, progress, run.evaluations())
    with rng.isolated(black_box.device), counted as queried:
        tensors = replace(run, black_box=queried).tensors()
    explanation = run.explanation(tensors, time.perf_counter() - started)
    for message in [*run.messages, *doubts(explanation)]:
        warnings.warn(message, ReliabilityWarning, stacklevel=2)
    return explanation


def default_masker(black_box: BlackBox, regions: int = 1) -> Masker:
    """The masker trained for exactly this model, if there is one; else one that it allows.

    One of several regions need not hold all evidence: `iterative` then only keeps.
    """
    keeping = ":objective=sufficient" if regions > 1 else ""
    trained = None if black_box.module is None else trained_masker(black_box)
    return trained or as_masker(f"iterative{keeping}" if black_box.differentiable else "rise")
