"""check_alternative: everything that the library relies on of an alternative."""

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.types import Images, Mask
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.contracts.case import CLOSE, SIZES, Case, Clause, form_of, is_part, seeded

KIND = Clause(
    "it is derived from saliencykit.Alternative",
    "write class Mine(saliencykit.Alternative) and implement fill",
)
OWN_CALL = Clause(
    "__call__ is the library's: it checks what goes in and out", "implement fill only"
)
FOR_BOX = Clause(
    "for_box gives an Alternative", "return self, unless you depend on how the box normalises"
)
FILLS = Clause(
    "a fill is finite and has the images' shape, dtype and device, whatever their size",
    "make it with images.new_zeros, torch.zeros_like or saliencykit.core.rng",
)
WITHOUT_MASK = Clause(
    "fill also works without a mask",
    "mask is None where nothing is masked yet: fill the whole picture",
)
REPEATS = Clause(
    "the same images and seed give the same fill",
    "keep nothing between calls; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a row of the fill depends on that image alone, not on the batch around it",
    "draw with saliencykit.core.rng(images, shape, generator=generator), and take no statistics "
    "over dimension 0",
)
MOVES_ON = Clause(
    "the generator moves on by the same amount whatever the batch",
    "draw with saliencykit.core.rng, once for the whole batch",
)
IGNORES_MASK = Clause(
    "uses_mask=False does not look at the mask", "write uses_mask = True in the class"
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
    "draw with saliencykit.core.rng, and take no statistics over dimension 0",
)
GIVES_BACK = Clause(
    "what is borrowed is given back as it was: images, mask and the global random state",
    "no operation in place on images or mask; draw with saliencykit.core.rng, never from torch's "
    "or numpy's global state",
)


def check_alternative(alternative: Alternative) -> None:
    """Check an alternative: shape, dtype and device kept, drawn from the generator alone, row by
    row, without gradient.

    Args:
        alternative: What is checked, on eight small pictures.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.alternatives.noise import Noise
        >>> check_alternative(Noise())
    """
    who = f"check_alternative({alternative!r})"
    is_part(alternative, Alternative, KIND, OWN_CALL, who)
    black_box = PlantedEvidence()
    made = alternative.for_black_box(black_box)
    Case(who).require(
        isinstance(made, Alternative), FOR_BOX, expected="an Alternative", got=type(made).__name__
    )
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        images, labels = black_box.examples(4, generator=seeded(1), size=size)
        images, mask = images.to(dtype), black_box.evidence(images, labels).to(dtype)
        case = Case(
            who, {"images": images, "mask": mask, "generator": "Generator().manual_seed(0)"}
        )
        _check_fills(alternative, images, mask, case)
        _check_edits(alternative, images, mask, case)


def _check_fills(alternative: Alternative, images: Images, mask: Mask, case: Case) -> None:
    everything = torch.arange(len(images))

    def fill(some: Tensor, generator: Generator, pictures: Images = images) -> Images:
        return alternative(
            pictures[some], generator=generator, mask=mask[some] if alternative.uses_mask else None
        )

    with case.borrowing(GIVES_BACK, images=images, mask=mask), case.asking(FILLS, "a fill"):
        whole = fill(everything, seeded(0)).clone()
        alternative(images, generator=seeded(0), mask=mask)
    with case.asking(WITHOUT_MASK, "a fill"):
        alternative(images, generator=seeded(0))
    case.same(REPEATS, whole, fill(everything, seeded(0)), CLOSE, how="asked a second time")
    case.rows(ROWS, lambda some: fill(some, seeded(0)), whole, CLOSE)
    alone, together = seeded(0), seeded(0)
    fill(everything[:1], alone)
    fill(everything, together)
    equal = torch.equal(alone.get_state(), together.get_state())
    case.require(
        equal,
        MOVES_ON,
        expected="the generator's state after 1 image",
        got="another state after 4 images",
    )
    if not alternative.uses_mask:
        given = alternative(images, generator=seeded(0), mask=mask)
        case.same(IGNORES_MASK, whole, given, CLOSE, how="asked with mask=")
    carried = fill(everything, seeded(0), images.clone().requires_grad_(True)).requires_grad
    case.require(not carried, NO_GRADIENT, expected="requires_grad False", got="requires_grad True")


def _check_edits(alternative: Alternative, images: Images, mask: Mask, case: Case) -> None:
    with case.borrowing(GIVES_BACK, images=images, mask=mask), case.asking(EDITS, "an edit"):
        edited = alternative.edit(images, mask, seeded(0)).clone()
        kept = alternative.edit(images, torch.ones_like(mask), seeded(0))
    fits = (edited.shape, edited.dtype) == (images.shape, images.dtype) and bool(
        torch.isfinite(edited).all()
    )
    case.require(
        fits,
        EDITS,
        expected=f"{images.dtype} of shape {tuple(images.shape)}, finite",
        got=form_of(edited),
    )
    case.same(KEEPS, images, kept, CLOSE, how="edited with a mask of ones")
    case.rows(
        EDIT_ROWS, lambda some: alternative.edit(images[some], mask[some], seeded(0)), edited, CLOSE
    )
