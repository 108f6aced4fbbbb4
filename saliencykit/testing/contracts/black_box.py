"""check_black_box: everything that the library relies on of a black box."""

import torch
from PIL import Image
from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.testing.contracts.case import (
    CLOSE,
    Case,
    Clause,
    borrows,
    derived_from,
    form_of,
    is_part,
    seeded,
)

KIND = derived_from("BlackBox", "logits")
OWN_CALL = Clause(
    "__call__ is the library's: it splits and checks",
    "implement logits only, and call the black box where you need it",
)
DECLARES = Clause(
    "it has num_classes and differentiable", "set both in the class, as fields or as properties"
)
LOGITS = Clause(
    "logits gives finite floats (B, num_classes)",
    "check what your model returns; for probabilities return p.log()",
)
CLASSES = Clause("num_classes is a whole number >= 1", "give the length of a row of the logits")
DIFFERENTIABLE = Clause(
    "differentiable is True or False", "write False if callers cannot take gradients"
)
LARGEST = Clause(
    "max_batch_size is None or a whole number >= 1",
    "give the largest batch that logits takes; None is no limit",
)
DEVICE = Clause("device is a torch.device", "write torch.device('cpu'), not a string")
NAMES = Clause(
    "class_names is None or has one name per class", "give them in the order of the logits"
)
BASELINE = Clause(
    "baseline_color is None or one color value per channel",
    "give the raw color that your normalization maps to 0, a tuple",
)
REPEATS = Clause(
    "the same images get the same logits",
    "put the model in eval mode (no dropout), and keep no state between calls",
)
ROWS = Clause(
    "a row of the logits depends on that image alone, not on the batch around it",
    "no statistics over the batch: eval mode for batch norms, no sum or maximum over dimension 0",
)
OPTIMIZED = Clause(
    "optimized_for returns a black box with the same logits",
    "return self, unless you have a faster form of the same classifier",
)
BARE = Clause(
    "without_preprocessing returns a BlackBox", "return self, or a copy that does not normalize"
)
DOUBLES = Clause(
    "it takes float64 images and gives the same logits", "cast in logits: images.to(torch.float32)"
)
QUERY_ONLY = Clause(
    "logits of a query-only black box carry no gradient",
    "set differentiable=True, or detach the logits",
)
PATH = Clause(
    "differentiable=True keeps the autograd path to the images",
    "no detach, .data or numpy between images and logits; else write False",
)
SLOPE = Clause(
    "the gradient of the logits is finite", "look for a square root, logarithm or division at 0"
)
REACHES = Clause(
    "the gradient reaches the images",
    "the logits must depend on images itself, not on a detached copy",
)
PREPARED = Clause(
    "prepare gives raw pixels (1, C, H, W) in [0, 1], and the Geometry of that size and image",
    "normalize in logits, not here; Geometry(source_size=(height, width), region=(x0, y0, x1, y1), "
    "size=(height, width))",
)
GIVES_BACK = borrows(
    "the images, the model",
    "no operation in place on images; undo hooks, modes and flags of the model in a finally",
)


def check_black_box(black_box: BlackBox, *, images: Images | None = None) -> None:
    """Check a black box: attributes, shapes, independence of rows, gradients as declared, nothing
    borrowed changed.

    Args:
        black_box: The black box to check. If it has an `nn.Module` called `model`, that is watched
            too.
        images: At least 2 images that it takes; None: three images of noise, by its `prepare`.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.
        InputError: It needs `images`.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> check_black_box(black_box, images=black_box.examples(3, generator=torch.Generator())[0])
    """
    who = f"check_black_box({black_box!r})"
    is_part(black_box, BlackBox, KIND, OWN_CALL, who)
    for name in ("num_classes", "differentiable"):
        declared = name in vars(black_box) or hasattr(type(black_box), name)
        Case(who).require(declared, DECLARES, f"an attribute {name}", "none")
    images = _prepared(black_box, who) if images is None else images
    case, model = Case(who, {"images": images}), getattr(black_box, "model", None)
    model = model if isinstance(model, nn.Module) else None
    with (
        case.lending(GIVES_BACK, model, images=images),
        case.expecting(LOGITS, "logits"),
        torch.no_grad(),
    ):
        logits = black_box(images).clone()
    with case.lending(GIVES_BACK, model, images=images):
        with torch.no_grad():
            _check_attributes(black_box, images.shape[1], case)
            _check_logits(black_box, images, logits, case)
        with torch.enable_grad():
            _check_gradient(black_box, images.clone().requires_grad_(True), case)


def _check_attributes(black_box: BlackBox, channels: int, case: Case) -> None:
    classes, most = black_box.num_classes, black_box.max_batch_size
    names, color = black_box.class_names, black_box.baseline_color
    count = None if names is None else f"{len(names)} for {classes} classes"
    is_color = isinstance(color, tuple) and len(color) == channels
    facts: tuple[tuple[Clause, bool, object], ...] = (
        (CLASSES, isinstance(classes, int) and classes >= 1, classes),
        (DIFFERENTIABLE, isinstance(black_box.differentiable, bool), black_box.differentiable),
        (LARGEST, most is None or (isinstance(most, int) and most >= 1), most),
        (DEVICE, isinstance(black_box.device, torch.device), black_box.device),
        (NAMES, names is None or len(names) == classes, count),
        (BASELINE, color is None or is_color, color),
    )
    for clause, holds, got in facts:
        case.require(holds, clause, clause.contract, repr(got))


def _check_logits(black_box: BlackBox, images: Images, logits: Logits, case: Case) -> None:
    scale = float(logits.abs().max().clamp_min(1.0))
    case.same(REPEATS, logits, black_box(images), CLOSE * scale, how="a second time")
    case.rows(ROWS, lambda some: black_box(images[some]), logits, 10 * CLOSE * scale)
    with case.expecting(OPTIMIZED, "a BlackBox with the same logits"):
        optimized = black_box.optimized_for(images)
        case.require_a(BlackBox, optimized, OPTIMIZED)
        case.same(OPTIMIZED, logits, optimized(images), 2e-3 * scale, how="after optimized_for")
    with case.expecting(DOUBLES, "logits"):
        doubles = black_box(images.double()).to(logits.dtype)
    case.same(DOUBLES, logits, doubles, 1e-3 * scale, how="for images.double()")
    case.require_a(BlackBox, black_box.without_preprocessing(), BARE)


def _check_gradient(black_box: BlackBox, images: Images, case: Case) -> None:
    logits = black_box(images)
    if not black_box.differentiable:
        got = "logits with requires_grad True"
        case.require(not logits.requires_grad, QUERY_ONLY, "requires_grad False", got)
        return
    got = "logits with requires_grad False"
    case.require(logits.requires_grad, PATH, "requires_grad True", got)
    with case.expecting(PATH, "torch.autograd.grad of the logits with respect to the images"):
        (slope,) = torch.autograd.grad(logits.square().sum(), images, allow_unused=True)
    slope = torch.zeros_like(images) if slope is None else slope
    finite, some = bool(torch.isfinite(slope).all()), bool((slope != 0).any())
    case.require(finite, SLOPE, "finite numbers", "NaN or infinity in it")
    case.require(some, REACHES, "a gradient that is not 0 somewhere", "zeros everywhere")


def _prepared(black_box: BlackBox, who: str) -> Images:
    """Three images of noise, prepared by the black box."""
    case, prepared = Case(who, {"image": "RGB noise, 120 wide and 90 high"}), []
    pixels = torch.randint(
        256, (3, 90, 120, 3), generator=seeded(1), dtype=torch.uint8, device="cpu"
    )
    for noise in pixels.numpy():
        refused = None
        with case.expecting(PREPARED, "images and a Geometry"):
            try:
                images, geometry = black_box.prepare(Image.fromarray(noise))
            except InputError as error:
                refused = error
        if refused is not None:
            raise InputError(
                f"{who} needs images=, because the black box does not prepare images: {refused}"
            ) from refused
        fits = images.ndim == 4 and len(images) == 1 and geometry.source_size == (90, 120)
        fits = fits and tuple(images.shape[2:]) == geometry.size
        fits = fits and bool((images >= 0).all() and (images <= 1).all())
        got = f"{form_of(images)} and {geometry}"
        case.require(fits, PREPARED, "1 image with its Geometry", got)
        prepared.append(images)
    return torch.cat(prepared).to(black_box.device)
