"""check_masker: everything that the library relies on of a masker."""

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.contracts.case import CLOSE, SIZES, Case, Clause, is_part, seeded

KIND = Clause(
    "it is derived from saliencykit.Masker",
    "write class Mine(saliencykit.Masker) and implement mask",
)
OWN_CALL = Clause(
    "__call__ and attribute are the library's: they check, enlarge and set the grad mode",
    "implement mask; for raw scores return MaskerOutput",
)
SAYS = Clause(
    "needs_gradient is True or False",
    "write needs_gradient = True in the class if mask takes gradients of the box",
)
MASKS = Clause(
    "a mask is finite floats (B, 1, h, w) in [0, 1], whatever the size of the pictures",
    "one channel, divided by each picture's own maximum; if mask takes gradients of the box, "
    "write needs_gradient = True",
)
REPEATS = Clause(
    "the same images, labels and seed give the same mask, whatever was asked in between",
    "keep nothing in self; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a row of the mask depends on that image and label alone, not on the batch around it",
    "divide by the picture's own maximum, amax((1, 2, 3), keepdim=True); draw with "
    "saliencykit.core.rng, and in a loop over pictures let each start from a generator of the "
    "same seed",
)
QUERY_ONLY = Clause(
    "needs_gradient=False works with a box that can only be asked",
    "write needs_gradient = True: users are then told at once",
)
GIVES_BACK = Clause(
    "what is borrowed is given back as it was: images, labels, the box's model and the global "
    "random state",
    "no operation in place; torch.autograd.grad, never .backward(); hooks and modes of the model "
    "undone in a finally",
)


def check_masker(
    masker: Masker, *, black_box: BlackBox | None = None, images: Images | None = None
) -> None:
    """Check a masker: shape, range, same seed same mask alone and in a batch, nothing borrowed
    changed, query-only respected.

    Args:
        masker: What is checked; it is called about 15 times on 4 images, so give it few steps or
            samples.
        black_box: A box that it works on; None: PlantedEvidence (for one that reads layers, and
            refuses a box without any, a small network), and a small network that is watched for
            changes.
        images: At least 2 images that the box takes; None: PlantedEvidence's examples.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.
        InputError: A box of one's own needs `images`.

    Example:
        >>> from saliencykit.maskers.baselines import CenterBox
        >>> check_masker(CenterBox())
    """
    who = f"check_masker({masker!r})"
    is_part(masker, Masker, KIND, OWN_CALL, who, ("__call__", "attribute"))
    said = masker.needs_gradient
    Case(who).require(isinstance(said, bool), SAYS, expected="True or False", got=repr(said))
    black_box = PlantedEvidence() if black_box is None else black_box
    batches = [images] if images is not None else []
    if images is None and isinstance(black_box, PlantedEvidence):
        batches = [black_box.examples(4, generator=seeded(1), size=size)[0] for size in SIZES]
        if black_box is None and _reads_layers(masker, black_box, batches[0]):
            black_box = _box_of(small_network().eval())
    if not batches:
        raise InputError(
            f"{who}: with a black_box of your own, images= that it takes are given too."
        )
    for pictures in batches:
        _check_masks(masker, black_box, pictures, who)
    if black_box is None:
        _check_borrowed_model(masker, who)


def _check_masks(masker: Masker, black_box: BlackBox, images: Images, who: str) -> None:
    labels = torch.arange(len(images)) % black_box.num_classes
    case = Case(
        who,
        {
            "images": images,
            "labels": labels,
            "generator": "Generator().manual_seed(0)",
            "box": black_box,
        },
    )

    def ask(some: Tensor, by: BlackBox = black_box) -> Tensor:
        return masker(by, images[some], labels[some], generator=seeded(0)).clone()

    everything = torch.arange(len(images))
    with case.borrowing(GIVES_BACK, images=images, labels=labels), case.asking(MASKS, "a mask"):
        mask = masker(black_box, images, labels, generator=seeded(0)).clone()
    with case.asking(REPEATS, "a mask"):
        # a call in between, which must leave nothing behind
        masker(black_box, images.flip(3), labels, generator=seeded(5))
        again = ask(everything)
    case.same(REPEATS, mask, again, CLOSE, how="asked again after a question about other pictures")
    case.rows(ROWS, ask, mask, CLOSE)
    if not masker.needs_gradient:
        with case.asking(QUERY_ONLY, "a mask"):
            try:
                ask(everything, QueryOnly(black_box))
            except (
                InputError
            ):  # one that reads the layers of the model may refuse a box that shows none
                if black_box.module is None:
                    raise


def _reads_layers(masker: Masker, black_box: BlackBox, images: Images) -> bool:
    """Does the masker refuse a box that shows no module?"""
    try:
        masker(
            black_box,
            images.clone(),
            torch.zeros(len(images), dtype=torch.int64),
            generator=seeded(0),
        )
    except InputError:
        return black_box.module is None
    except Exception:  # the suite will meet it again and say of which input
        return False
    return False


def _box_of(model: nn.Module) -> BlackBox:
    from saliencykit.black_boxes.torch_module import TorchBlackBox

    return TorchBlackBox(model, mean=(0.5,) * 3, std=(0.25,) * 3, size=16)


def _check_borrowed_model(masker: Masker, who: str) -> None:
    model = small_network().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[7].bias.grad = torch.ones(4)
    images, labels = PlantedEvidence().examples(2, generator=seeded(1))
    case = Case(
        who, {"images": images, "labels": labels, "box": "TorchBlackBox(small_network(), ...)"}
    )
    with (
        case.borrowing(GIVES_BACK, model, images=images, labels=labels),
        case.asking(MASKS, "a mask"),
    ):
        masker(_box_of(model), images, labels, generator=seeded(0))
