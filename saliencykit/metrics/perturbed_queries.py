"""Queries of many perturbed images: one draw of the alternative, and several perturbations per
batch.
"""

from collections.abc import Callable, Iterable, MutableMapping
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.output import Meaning, probability
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels, Logits, Mask, PerImage

_MAX_FILLS = 4  # cached fills of the last images
_Fills: TypeAlias = dict[tuple[Alternative, bytes], tuple[Images | None, Tensor]]
_fills: MutableMapping[Tensor, tuple[Tensor, _Fills]] = WeakTensorKeyDictionary()


def check_fractions(metric: object, name: str, fractions: tuple[float, ...]) -> None:
    """Raise InputError unless these are fractions of the image in (0, 1), in ascending order."""
    if (
        not isinstance(fractions, tuple)
        or not fractions
        or not all(isinstance(each, int | float) for each in fractions)
        or not all(a < b for a, b in pairwise((0, *fractions, 1)))
    ):
        raise InputError(
            f"{name_of(metric)}({name}={fractions!r}) takes fractions of the image in (0, 1), a "
            "tuple in ascending order, such as (0.1, 0.3, 0.5)."
        )


def make_perturber(
    black_box: BlackBox, images: Images, alternative: Alternative, generator: Generator
) -> Callable[[Mask], Images]:
    """A function from a mask (B, 1, H, W), float or bool, to the perturbed images, all with one
    draw of the alternative.

    So differences between masks are paired: they share the fill (or, for an alternative whose fill
    depends on the mask, its random numbers).

    Args:
        black_box: For alternatives that depend on its normalization.
        images: (B, C, H, W).
        alternative: Fills the pixels where a mask is 0.
        generator: Advances by a number or two.
    """
    alternative = alternative.for_black_box(black_box)
    fill = _fill(alternative, images, generator)
    if fill is None:
        seed = rng.seed(generator)
        return lambda mask: alternative.edit(
            images, mask.to(images.dtype), Generator().manual_seed(seed)
        )

    def perturb(mask: Mask) -> Images:
        if mask.dtype == torch.bool:  # the same in one pass over memory instead of four
            return torch.where(mask, images, fill)
        return compose(images, mask.to(images.dtype), fill)

    return perturb


def _fill(alternative: Alternative, images: Images, generator: Generator) -> Images | None:
    """`shared_fill`, cached: several metrics perturb the same images, for every masker.

    The generator ends in the state in which computing the fill leaves it.
    """
    before = generator.get_state()
    try:
        key = (alternative, before.numpy().tobytes())
        hash(key)
    except TypeError:  # an alternative without equality
        return shared_fill(alternative, images, generator)
    content = rng.image_keys(images)  # a tensor can be modified in place
    if images not in _fills or not torch.equal(_fills[images][0], content):
        _fills.clear()
        _fills[images] = (content, {})
    known = _fills[images][1]
    if key not in known:
        if len(known) >= _MAX_FILLS:
            known.clear()
        known[key] = (shared_fill(alternative, images, generator), generator.get_state())
    fill, after = known[key]
    generator.set_state(after)
    return fill


def query_batched(black_box: BlackBox, perturbed: Iterable[Images]) -> Logits:
    """The logits of n perturbations of a batch, (n, B, K); small batches are joined.

    Args:
        black_box: An optimized copy: `black_box.optimized_for(images)`.
        perturbed: n tensors (B, C, H, W), computed when they are needed.
    """
    waiting: list[Images] = []
    logits: list[Logits] = []

    def flush() -> None:
        together = black_box(torch.cat(waiting))
        logits.extend(together.view(len(waiting), -1, together.shape[1]))
        waiting.clear()

    for images in perturbed:
        if waiting and (len(waiting) + 1) * len(images) > micro_batch(black_box):
            flush()
        waiting.append(images)
    flush()
    return torch.stack(logits)


def probabilities(
    black_box: BlackBox, labels: Labels, perturbed: Iterable[Images], output: Meaning
) -> PerImage:
    """The label's probability for n perturbations of a batch, (n, B); see `query_batched` and
    `relative_output`.
    """
    logits = query_batched(black_box, perturbed)
    repeated = labels.repeat(len(logits))
    return probability(logits.flatten(0, 1), repeated, output).view(len(logits), -1)
