"""check_masker: everything that the library relies on of a masker."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.contracts.case import (
    CLOSE,
    SIZES,
    Case,
    Clause,
    borrows,
    derived_from,
    is_part,
    seeded,
)

KIND = derived_from("Masker", "mask")
OWN_CALL = Clause(
    "__call__, attribute and predict_masker are the library's: they check, enlarge and set the "
    "grad mode",
    "implement mask; for raw attributions return MaskerOutput; for one pass implement one_pass",
)
DECLARES = Clause(
    "needs_gradient is True or False, confidence a float or None, fit_options a mapping or None, "
    "identity a text that stays the same",
    "write needs_gradient = True in the class if mask takes gradients of the black box; leave out "
    "the others if they do not apply",
)
MASKS = Clause(
    "a mask is finite floats (B, 1, h, w) in [0, 1], whatever the size of the images",
    "one channel, divided by each image's own maximum; if mask takes gradients of the black box, "
    "write needs_gradient = True",
)
REPEATS = Clause(
    "the same images, labels and seed give the same mask, whatever was computed in between",
    "keep nothing in self; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a row of the mask depends on that image and label alone, not on the batch around it",
    "divide by the image's own maximum, amax((1, 2, 3), keepdim=True); draw with "
    "saliencykit.core.rng, and in a loop over images let each start from a generator of the same "
    "seed",
)
BINDS = Clause(
    "for_black_box returns a Masker that gives the same masks",
    "return self, or a copy made ready for that black box",
)
ONE_PASS = Clause(
    "one_pass returns a Masker that gives the same masks, and the logits of the black box",
    "return (masker, logits), both from the same features; or leave one_pass out",
)
QUERY_ONLY = Clause(
    "needs_gradient=False works with a query-only black box",
    "write needs_gradient = True: users are then told at once",
)
GIVES_BACK = borrows(
    "images, labels, the black box's model",
    "no operation in place; torch.autograd.grad, never .backward(); undo hooks and modes of the "
    "model in a finally",
)


def check_masker(
    masker: Masker, *, black_box: BlackBox | None = None, images: Images | None = None
) -> None:
    """Check a masker: shape, range, the same mask for the same seed alone and in a batch, abilities
    as declared, nothing borrowed changed, query-only black boxes respected.

    Args:
        masker: The masker to check. It is called about 15 times on 4 images, so give it few steps
            or samples.
        black_box: A black box that it works on; None: PlantedEvidence (a small network for a masker
            that refuses a black box without layers), and a small network that is watched for
            changes.
        images: At least 2 images that the black box takes; None: PlantedEvidence's examples.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.
        InputError: A black box of your own needs `images`.

    Example:
        >>> from saliencykit.maskers import CenterBox
        >>> check_masker(CenterBox())
    """
    who = f"check_masker({masker!r})"
    is_part(masker, Masker, KIND, OWN_CALL, who, ("__call__", "attribute", "predict_masker"))
    _check_declarations(masker, Case(who))
    queried = PlantedEvidence() if black_box is None else black_box
    batches = [images] if images is not None else []
    if images is None and isinstance(queried, PlantedEvidence):
        batches = [queried.examples(4, generator=seeded(1), size=size)[0] for size in SIZES]
        if black_box is None and _reads_layers(masker, queried, batches[0]):
            queried = _wrapped(small_network().eval())
    if not batches:
        raise InputError(f"{who}: with a black_box of your own, give images= that it takes too.")
    for batch in batches:
        _check_masks(masker, queried, batch, who)
    if black_box is None:
        _check_borrowed_model(masker, who)


def _check_declarations(masker: Masker, case: Case) -> None:
    options, level = masker.fit_options, masker.confidence
    facts: tuple[tuple[str, bool, object], ...] = (
        ("True or False", isinstance(masker.needs_gradient, bool), masker.needs_gradient),
        ("confidence, a float or None", level is None or isinstance(level, float), level),
        (
            "fit_options, a mapping or None",
            options is None or isinstance(options, Mapping),
            options,
        ),
        ("the same text twice", masker.identity() == masker.identity(), "two texts"),
    )
    for expected, holds, got in facts:
        case.require(holds, DECLARES, expected, repr(got))


def _check_masks(masker: Masker, black_box: BlackBox, images: Images, who: str) -> None:
    labels = torch.arange(len(images), device="cpu") % black_box.num_classes
    given = {"images": images, "labels": labels, "generator": "Generator().manual_seed(0)"}
    case = Case(who, given | {"black_box": black_box})

    def query(some: Tensor, of: BlackBox = black_box, by: Masker = masker) -> Tensor:
        return by(of, images[some], labels[some], generator=seeded(0)).clone()

    everything = torch.arange(len(images), device="cpu")
    with case.lending(GIVES_BACK, images=images, labels=labels), case.expecting(MASKS, "a mask"):
        mask = masker(black_box, images, labels, generator=seeded(0)).clone()
    with case.expecting(REPEATS, "a mask"):
        # a call in between, which must leave nothing behind
        masker(black_box, images.flip(3), labels, generator=seeded(5))
        again = query(everything)
    case.same(REPEATS, mask, again, CLOSE, how="computed again after other images")
    case.rows(ROWS, query, mask, CLOSE)
    _check_abilities(masker, black_box, images, mask, lambda by: query(everything, by=by), case)
    if not masker.needs_gradient:
        with case.expecting(QUERY_ONLY, "a mask"):
            try:
                query(everything, QueryOnly(black_box))
            except InputError:  # a masker that reads layers may refuse a black box without any
                if black_box.module is None:
                    raise


def _check_abilities(
    masker: Masker,
    black_box: BlackBox,
    images: Images,
    mask: Tensor,
    mask_by: Callable[[Masker], Tensor],
    case: Case,
) -> None:
    with case.expecting(BINDS, "a Masker"):
        bound = masker.for_black_box(black_box)
        case.require_a(Masker, bound, BINDS)
        case.same(BINDS, mask, mask_by(bound), CLOSE, how="after for_black_box")
    if masker.has_one_pass:
        with case.expecting(ONE_PASS, "a Masker and logits"), torch.no_grad():
            one, logits = bound.predict_masker(black_box, images)
            wanted = black_box(images)
            scale = float(wanted.abs().max().clamp_min(1.0))
            case.same(ONE_PASS, wanted, logits, 1e-3 * scale, how="logits of one_pass")
            case.same(ONE_PASS, mask, mask_by(one), 1e-3, how="by the masker of one_pass")


def _reads_layers(masker: Masker, black_box: BlackBox, images: Images) -> bool:
    """Does the masker refuse a black box without a module?"""
    labels = torch.zeros(len(images), dtype=torch.int64, device="cpu")
    try:
        masker(black_box, images.clone(), labels, generator=seeded(0))
    except InputError:
        return black_box.module is None
    except Exception:  # the suite meets it again and says for which input
        return False
    return False


def _wrapped(model: nn.Module) -> BlackBox:
    return TorchBlackBox(model, mean=(0.5,) * 3, std=(0.25,) * 3, size=16)


def _check_borrowed_model(masker: Masker, who: str) -> None:
    images, labels = PlantedEvidence().examples(2, generator=seeded(1))
    given = {"images": images, "labels": labels, "black_box": "TorchBlackBox(small_network(), ...)"}
    case = Case(who, given)
    for training in (True, False):  # in training mode a copy runs, which hides what it changes
        model = small_network().train(training)
        model[1].eval()
        model[0].weight.requires_grad_(False)
        model[7].bias.grad = torch.ones(4, dtype=torch.float32, device="cpu")
        with (
            case.lending(GIVES_BACK, model, images=images, labels=labels),
            case.expecting(MASKS, "a mask"),
        ):
            masker(_wrapped(model), images, labels, generator=seeded(0))
