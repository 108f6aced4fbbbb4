"""check_alternative: everything that the library relies on of an alternative."""

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.contracts.case import (
    CLOSE,
    SIZES,
    Case,
    Clause,
    borrows,
    derived_from,
    form_of,
    is_part,
    seeded,
)

KIND = derived_from("Alternative", "fill")
OWN_CALL = Clause("__call__ is the library's: it checks inputs and outputs", "implement fill only")
BINDS = Clause(
    "for_black_box returns an Alternative",
    "return self, unless the fill depends on the normalization of the black box",
)
FILLS = Clause(
    "a fill is finite and has the images' shape, dtype and device, whatever their size",
    "make it with images.new_zeros, torch.zeros_like or saliencykit.core.rng",
)
WITHOUT_MASK = Clause(
    "fill also works without a mask", "with mask=None fill the whole image: nothing is masked yet"
)
REPEATS = Clause(
    "the same images and seed give the same fill",
    "keep no state between calls; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a row of the fill depends on that image alone, not on the batch around it",
    "draw with saliencykit.core.rng, and compute no statistics over dimension 0",
)
ADVANCES = Clause(
    "the generator advances by the same amount whatever the batch",
    "draw with saliencykit.core.rng, once for the whole batch",
)
IGNORES_MASK = Clause(
    "uses_mask=False does not depend on the mask", "write uses_mask = True in the class"
)
NO_GRADIENT = Clause("a fill carries no gradient", "fill under torch.no_grad(), or detach it")
KEEPS = Clause(
    "edit with a mask of ones gives the images",
    "do not override edit, or end with compose(images, mask, fill)",
)
EDITS = Clause(
    "edit keeps the images' shape and dtype, and stays finite",
    "end with compose(images, mask, fill)",
)
EDIT_ROWS = Clause(
    "a row of an edit depends on that image and mask alone, not on the batch around it",
    "draw with saliencykit.core.rng, and compute no statistics over dimension 0",
)
GIVES_BACK = borrows(
    "images, mask",
    "no operation in place on images or mask; draw with saliencykit.core.rng, never from the "
    "global state of torch or numpy",
)


def check_alternative(alternative: Alternative) -> None:
    """Check an alternative: shape, dtype and device kept, drawn from the generator alone, row by
    row, without gradient.

    Args:
        alternative: The alternative to check, on eight small images.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.alternatives import Noise
        >>> check_alternative(Noise())
    """
    who = f"check_alternative({alternative!r})"
    is_part(alternative, Alternative, KIND, OWN_CALL, who)
    black_box = PlantedEvidence()
    Case(who).require_a(Alternative, alternative.for_black_box(black_box), BINDS)
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        images, labels = black_box.examples(4, generator=seeded(1), size=size)
        images, mask = images.to(dtype), black_box.evidence(images, labels).to(dtype)
        given = {"images": images, "mask": mask, "generator": "Generator().manual_seed(0)"}
        _check_fills(alternative, images, mask, Case(who, given))
        _check_edits(alternative, images, mask, Case(who, given))


def _check_fills(alternative: Alternative, images: Images, mask: Mask, case: Case) -> None:
    everything = torch.arange(len(images), device="cpu")

    def fill(some: Tensor, generator: Generator, images: Images = images) -> Images:
        part = mask[some] if alternative.uses_mask else None
        return alternative(images[some], generator=generator, mask=part)

    with case.lending(GIVES_BACK, images=images, mask=mask), case.expecting(FILLS, "a fill"):
        whole = fill(everything, seeded(0)).clone()
        alternative(images, generator=seeded(0), mask=mask)
    with case.expecting(WITHOUT_MASK, "a fill"):
        alternative(images, generator=seeded(0))
    case.same(REPEATS, whole, fill(everything, seeded(0)), CLOSE, how="a second time")
    case.rows(ROWS, lambda some: fill(some, seeded(0)), whole, CLOSE)
    alone, together = seeded(0), seeded(0)
    fill(everything[:1], alone)
    fill(everything, together)
    equal = torch.equal(alone.get_state(), together.get_state())
    states = "the generator's state after 1 image", "another state after 4 images"
    case.require(equal, ADVANCES, *states)
    if not alternative.uses_mask:
        given = alternative(images, generator=seeded(0), mask=mask)
        case.same(IGNORES_MASK, whole, given, CLOSE, how="with mask=")
    carried = fill(everything, seeded(0), images.clone().requires_grad_(True)).requires_grad
    case.require(not carried, NO_GRADIENT, "requires_grad False", "requires_grad True")


def _check_edits(alternative: Alternative, images: Images, mask: Mask, case: Case) -> None:
    with case.lending(GIVES_BACK, images=images, mask=mask), case.expecting(EDITS, "an edit"):
        edited = alternative.edit(images, mask, seeded(0)).clone()
        kept = alternative.edit(images, torch.ones_like(mask), seeded(0))
    fits = (edited.shape, edited.dtype) == (images.shape, images.dtype)
    fits = fits and bool(torch.isfinite(edited).all())
    expected = f"{images.dtype} of shape {tuple(images.shape)}, finite"
    case.require(fits, EDITS, expected, form_of(edited))
    case.same(KEEPS, images, kept, CLOSE, how="edited with a mask of ones")

    def edit(some: Tensor) -> Images:
        return alternative.edit(images[some], mask[some], seeded(0))

    case.rows(EDIT_ROWS, edit, edited, CLOSE)
