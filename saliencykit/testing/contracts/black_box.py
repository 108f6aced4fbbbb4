"""check_black_box: everything that the library relies on of a black box."""

import torch
from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits
from saliencykit.testing.contracts.case import CLOSE, Case, Clause, form_of, is_part, seeded

KIND = Clause(
    "it is derived from saliencykit.BlackBox",
    "write class Mine(saliencykit.BlackBox) and implement logits",
)
OWN_CALL = Clause(
    "__call__ is the library's: it splits and checks",
    "implement logits only, and call the box where you need it",
)
SAYS = Clause(
    "it says num_classes and differentiable", "set both in the class, as fields or as properties"
)
ANSWERS = Clause(
    "logits gives finite floats (B, num_classes)",
    "look at what your model returns; of probabilities return p.log()",
)
CLASSES = Clause("num_classes is a whole number >= 1", "give the length of a row of the answer")
DIFFERENTIABLE = Clause(
    "differentiable is True or False", "say False if callers cannot take gradients"
)
LARGEST = Clause(
    "max_batch_size is None or a whole number >= 1",
    "give the largest batch that logits takes; None is no limit",
)
DEVICE = Clause("device is a torch.device", "write torch.device('cpu'), not a text")
NAMES = Clause(
    "class_names is None or has one name per class", "give them in the order of the logits"
)
ZERO = Clause(
    "zero is None or one colour value per channel",
    "give the raw colour that your normalising maps to 0, a tuple",
)
REPEATS = Clause(
    "the same images get the same logits",
    "put the model in eval mode (no dropout), and keep nothing between calls",
)
ROWS = Clause(
    "a row of the logits depends on that image alone, not on the batch around it",
    "no statistics over the batch: eval mode for batch norms, no sum or maximum over dimension 0",
)
MANY = Clause(
    "for_many gives a box that answers alike",
    "return self, unless you have a faster form of the same classifier",
)
BARE = Clause("for_model_pixels gives a BlackBox", "return self, or a copy that does not normalise")
DOUBLES = Clause(
    "it takes float64 images and answers alike", "cast inside logits: images.to(torch.float32)"
)
QUERY_ONLY = Clause(
    "a query-only box answers without gradient", "set differentiable=True, or detach the answer"
)
PATH = Clause(
    "differentiable=True keeps the autograd path to the images",
    "no detach, .data or numpy on the way; else say False",
)
SLOPE = Clause(
    "the gradient of the logits is finite", "look for a square root, logarithm or division at 0"
)
REACHES = Clause(
    "the gradient reaches the images",
    "the answer must depend on images itself, not on a detached copy",
)
PREPARED = Clause(
    "prepare gives raw pixels (1, C, H, W) in [0, 1], and the Geometry of that size and picture",
    "normalise in logits, not here; Geometry(source_size=(height, width), region=(x0, y0, x1, y1), "
    "size=(height, width))",
)
GIVES_BACK = Clause(
    "what is borrowed is given back as it was: the images, the model, the global random state",
    "no operation in place on images; hooks, modes and flags of the model are undone in a finally",
)


def check_black_box(black_box: BlackBox, *, images: Images | None = None) -> None:
    """Check a black box: attributes, shapes, independence of rows, gradients as claimed, nothing
    borrowed changed.

    Args:
        black_box: What is checked. If it has an `nn.Module` called `model`, that is watched too.
        images: At least 2 images that it takes; None: what its `prepare` makes of three pictures of
            noise.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.
        InputError: It needs `images`.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> check_black_box(black_box, images=black_box.examples(3, generator=torch.Generator())[0])
    """
    who = f"check_black_box({black_box!r})"
    is_part(black_box, BlackBox, KIND, OWN_CALL, who)
    for name in ("num_classes", "differentiable"):
        said = name in vars(black_box) or hasattr(type(black_box), name)
        Case(who).require(said, SAYS, expected=f"an attribute {name}", got="none")
    images = _pictures(black_box, who) if images is None else images
    case, model = Case(who, {"images": images}), getattr(black_box, "model", None)
    model = model if isinstance(model, nn.Module) else None
    with (
        case.borrowing(GIVES_BACK, model, images=images),
        case.asking(ANSWERS, "logits"),
        torch.no_grad(),
    ):
        logits = black_box(images).clone()
    with case.borrowing(GIVES_BACK, model, images=images):
        _check_answers(black_box, images, logits, case)
        _check_gradient(black_box, images, case)


def _check_answers(black_box: BlackBox, images: Images, logits: Logits, case: Case) -> None:
    with torch.no_grad():
        _check_attributes(black_box, images.shape[1], case)
        scale = float(logits.abs().max().clamp_min(1.0))
        case.same(REPEATS, logits, black_box(images), CLOSE * scale, how="asked a second time")
        case.rows(ROWS, lambda some: black_box(images[some]), logits, 10 * CLOSE * scale)
        with case.asking(MANY, "a BlackBox with the same answers"):
            many = black_box.optimized_for(images)
            case.require(
                isinstance(many, BlackBox), MANY, expected="a BlackBox", got=type(many).__name__
            )
            case.same(MANY, logits, many(images), 2e-3 * scale, how="asked for_many(images)")
        with case.asking(DOUBLES, "logits"):
            doubles = black_box(images.double()).to(logits.dtype)
        case.same(DOUBLES, logits, doubles, 1e-3 * scale, how="asked about images.double()")
        bare = black_box.without_preprocessing()
        case.require(
            isinstance(bare, BlackBox), BARE, expected="a BlackBox", got=type(bare).__name__
        )


def _check_gradient(black_box: BlackBox, images: Images, case: Case) -> None:
    with torch.enable_grad():
        asked = images.clone().requires_grad_(True)
        answer = black_box(asked)
        if not black_box.differentiable:
            case.require(
                not answer.requires_grad,
                QUERY_ONLY,
                expected="requires_grad False",
                got="logits with requires_grad True",
            )
            return
        case.require(
            answer.requires_grad,
            PATH,
            expected="requires_grad True",
            got="logits with requires_grad False",
        )
        with case.asking(PATH, "torch.autograd.grad of the logits with respect to the images"):
            (slope,) = torch.autograd.grad(answer.square().sum(), asked, allow_unused=True)
    slope = torch.zeros_like(asked) if slope is None else slope
    case.require(
        bool(torch.isfinite(slope).all()),
        SLOPE,
        expected="finite numbers",
        got="NaN or infinity in it",
    )
    case.require(
        bool((slope != 0).any()),
        REACHES,
        expected="a gradient that is not 0 somewhere",
        got="zeros everywhere",
    )


def _check_attributes(black_box: BlackBox, channels: int, case: Case) -> None:
    classes, most, names, baseline_color = (
        black_box.num_classes,
        black_box.max_batch_size,
        black_box.class_names,
        black_box.baseline_color,
    )
    facts = (
        (CLASSES, isinstance(classes, int) and classes >= 1, classes),
        (DIFFERENTIABLE, isinstance(black_box.differentiable, bool), black_box.differentiable),
        (LARGEST, most is None or (isinstance(most, int) and most >= 1), most),
        (DEVICE, isinstance(black_box.device, torch.device), black_box.device),
        (
            NAMES,
            names is None or len(names) == classes,
            None if names is None else f"{len(names)} for {classes} classes",
        ),
        (
            ZERO,
            baseline_color is None
            or (isinstance(baseline_color, tuple) and len(baseline_color) == channels),
            baseline_color,
        ),
    )
    for clause, holds, got in facts:
        case.require(holds, clause, expected=clause.contract, got=repr(got))


def _pictures(black_box: BlackBox, who: str) -> Images:
    """What the box makes of three pictures of noise."""
    from PIL import Image

    case, prepared = Case(who, {"picture": "RGB noise, 120 wide and 90 high"}), []
    for noise in torch.randint(
        256, (3, 90, 120, 3), generator=seeded(1), dtype=torch.uint8
    ).numpy():
        refused = None
        with case.asking(PREPARED, "images and a Geometry"):
            try:
                images, geometry = black_box.prepare(Image.fromarray(noise))
            except InputError as error:
                refused = error
        if refused is not None:
            raise InputError(
                f"{who} needs images=, because the box does not prepare pictures: {refused}"
            ) from refused
        fits = (
            images.ndim == 4
            and len(images) == 1
            and tuple(images.shape[2:]) == geometry.size
            and geometry.source_size == (90, 120)
        )
        fits = fits and bool((images >= 0).all() and (images <= 1).all())
        case.require(
            fits,
            PREPARED,
            expected="1 image with its Geometry",
            got=f"{form_of(images)} and {geometry}",
        )
        prepared.append(images)
    return torch.cat(prepared).to(black_box.device)
