"""What metrics that ask about many edits share: one draw of the alternative, and answers for all
pictures of the batch at once.
"""

from collections.abc import Callable, Iterable, MutableMapping
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from saliencykit.core import class_scores, rng
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels, Logits, Mask

_FILLS = 4  # remembered at a time
_Fills: TypeAlias = dict[tuple[Alternative, bytes], tuple[Images | None, Tensor]]
# of the last pictures
_fills: MutableMapping[Tensor, tuple[Tensor, _Fills]] = WeakTensorKeyDictionary()


def check_alternative(metric: object, alternative: object) -> None:
    """Raise InputError unless a metric's `alternative` is one."""
    if not isinstance(alternative, Alternative):
        raise InputError(
            f"{name_of(metric)}(alternative={alternative!r}) takes an Alternative, such as Blur() "
            "or Constant(color='zero')."
        )


def check_shares(metric: object, name: str, shares: tuple[float, ...]) -> None:
    """Raise InputError unless a metric's shares of the picture are in (0, 1), each larger than the
    one before.
    """
    numbers = isinstance(shares, tuple) and all(isinstance(share, int | float) for share in shares)
    if (
        not numbers
        or not shares
        or not (shares[0] > 0 and shares[-1] < 1)
        or any(not a < b for a, b in pairwise(shares))
    ):
        raise InputError(
            f"{name_of(metric)}({name}={shares!r}) takes shares of the picture in (0, 1), a tuple "
            "in ascending order, such as (0.1, 0.3, 0.5)."
        )


def make_perturber(
    black_box: BlackBox, images: Images, alternative: Alternative, generator: Generator
) -> Callable[[Mask], Images]:
    """A function from a mask (B, 1, H, W), float or bool, to the pictures' edits, all with one draw
    of the alternative.

    So differences between masks are paired: the fill is the same for all of them (for an
    alternative whose fill depends on the mask, its random numbers are).

    Args:
        black_box: For alternatives that depend on its normalisation.
        images: (B, C, H, W).
        alternative: What stands where a mask is 0.
        generator: Moves on by a number or two.
    """
    alternative = alternative.for_black_box(black_box)
    fill = _fill(alternative, images, generator)
    if fill is not None:
        return lambda mask: _edited(images, mask, fill)
    seed = rng.seed(generator)
    return lambda mask: alternative.edit(
        images, mask.to(images.dtype), Generator().manual_seed(seed)
    )


def _edited(images: Images, mask: Mask, fill: Images) -> Images:
    if mask.dtype == torch.bool:  # the same in one pass instead of four
        return torch.where(mask, images, fill)
    return compose(images, mask.to(images.dtype), fill)


def _fill(alternative: Alternative, images: Images, generator: Generator) -> Images | None:
    """`shared_fill`, remembered: the same pictures are edited for every masker and by several
    metrics.

    The generator is left where making the fill left it.
    """
    before = generator.get_state()
    try:
        key = (alternative, before.numpy().tobytes())
        hash(key)
    except TypeError:  # an alternative that cannot be compared
        return shared_fill(alternative, images, generator)
    pictures = rng.image_keys(images)  # a tensor can be written to
    if images not in _fills or not torch.equal(_fills[images][0], pictures):
        _fills.clear()
        _fills[images] = (pictures, {})
    known = _fills[images][1]
    if key not in known:
        if len(known) >= _FILLS:
            known.clear()
        fill = shared_fill(alternative, images, generator)
        known[key] = (fill, generator.get_state())
        return fill
    fill, after = known[key]
    generator.set_state(after)
    return fill


def query_batched(black_box: BlackBox, edits: Iterable[Images]) -> Logits:
    """The answers to each of the edits of a batch, (n, B, K); small batches are asked several edits
    at a time.

    Args:
        black_box: A fast one: `black_box.optimized_for(images)`.
        edits: n tensors (B, C, H, W), made when they are needed.
    """
    waiting: list[Images] = []
    answers: list[Logits] = []

    def flush() -> None:
        together = black_box(torch.cat(waiting))
        answers.extend(together.view(len(waiting), -1, together.shape[1]))
        waiting.clear()

    for edit in edits:
        if waiting and (len(waiting) + 1) * len(edit) > micro_batch(black_box):
            flush()
        waiting.append(edit)
    flush()
    return torch.stack(answers)


def probabilities(black_box: BlackBox, labels: Labels, edits: Iterable[Images]) -> Tensor:
    """The probability of each picture's label in each of the edits of a batch, (n, B); see `query_batched`."""
    logits = query_batched(black_box, edits)
    return class_scores.probability(logits.flatten(0, 1), labels.repeat(len(logits))).view(
        len(logits), -1
    )
