"""Contract suites: everything that the library relies on, checked of one implementation in one line.

    def test_contract():
        check_masker(SuperpixelMasker(segments=16))

Each failure is a ContractError that says what the contract is and what came.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace

import torch
from torch import Generator, Tensor, nn

from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.core.objective import Term, Trial
from saliencykit.core.types import Images, Mask
from saliencykit.testing.boxes import Counting, PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.untouched import untouched

SIZES = ((16, 16), (11, 14))  # pixels; the second is neither square nor even
CLOSE = 1e-5  # how far a row may move with the batch around it


def check_black_box(black_box: BlackBox, *, images: Images | None = None) -> None:
    """Check a black box: attributes, shapes, independence of rows, gradients as claimed, nothing borrowed changed.

    Args:
        black_box: What is checked. If it has an `nn.Module` called `model`, that is watched too.
        images: At least 2 images that it takes; None: what its `prepare` makes of three pictures of noise.

    Raises:
        ContractError: It breaks its contract.

    Example:
        >>> box = PlantedEvidence()
        >>> check_black_box(box, images=box.examples(3, generator=torch.Generator())[0])
    """
    who = f"check_black_box({black_box!r})"
    _kind(black_box, BlackBox, who)
    images = _pictures(black_box, who) if images is None else images
    model = getattr(black_box, "model", None)
    with untouched(who, model if isinstance(model, nn.Module) else None, images=images):
        with torch.no_grad():
            logits = black_box(images)
        _attributes(black_box, who)
        scale = float(logits.abs().max().clamp_min(1.0))
        _same(black_box(images), logits, CLOSE * scale, who, "the same images get the same logits (no dropout, no state)")
        _rows(lambda some: black_box(images[some]).detach(), logits, 10 * CLOSE * scale, who, "logits")
        with torch.no_grad():
            many = black_box.for_many(images)
            _kind(many, BlackBox, f"{who}: for_many")
            _same(many(images), logits, 2e-3 * scale, who, "for_many answers as the box itself")
            _same(
                black_box(images.double()).to(logits.dtype),
                logits,
                1e-3 * scale,
                who,
                "it takes float64 images (casting is its business)",
            )
        with torch.enable_grad():
            asked = images.clone().requires_grad_(True)
            answer = black_box(asked)
            if not black_box.differentiable:
                _require(not answer.requires_grad, who, "a query-only box answers without gradient", "logits that require one")
                return
            _require(answer.requires_grad, who, "differentiable=True keeps the autograd path to the images", "logits without it")
            (slope,) = torch.autograd.grad(answer.square().sum(), asked)
        _require(bool(torch.isfinite(slope).all()), who, "the gradient is finite", "NaN or infinity in it")
        _require(bool((slope != 0).any()), who, "the gradient reaches the images", "zeros everywhere")


def check_alternative(alternative: Alternative) -> None:
    """Check an alternative: shape, dtype and device kept, drawn from the generator alone, row by row, without gradient.

    Raises:
        ContractError: It breaks its contract.

    Example:
        >>> from saliencykit.alternatives.noise import Noise
        >>> check_alternative(Noise())
    """
    who = f"check_alternative({alternative!r})"
    _kind(alternative, Alternative, who)
    box = PlantedEvidence()
    _kind(alternative.for_box(box), Alternative, f"{who}: for_box")
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        images, labels = box.examples(4, generator=_seeded(1), size=size)
        _check_fills(alternative, images.to(dtype), box.evidence(images, labels).to(dtype), who)


def _check_fills(alternative: Alternative, images: Images, mask: Mask, who: str) -> None:
    def fill(some: Tensor, generator: Generator, pictures: Images = images) -> Images:
        return alternative(pictures[some], generator=generator, mask=mask[some] if alternative.uses_mask else None)

    everything = torch.arange(len(images))
    with untouched(who, images=images, mask=mask):
        whole = alternative(images, generator=_seeded(0), mask=mask if alternative.uses_mask else None).clone()
    _same(fill(everything, _seeded(0)), whole, CLOSE, who, "the same generator gives the same fill")
    _rows(lambda some: fill(some, _seeded(0)), whole, CLOSE, who, "fill")
    alone, together = _seeded(0), _seeded(0)
    fill(everything[:1], alone)
    fill(everything, together)
    _require(
        torch.equal(alone.get_state(), together.get_state()),
        who,
        "the generator moves on by the same amount whatever the batch (draw with saliencykit.core.draw)",
        "more numbers for more images",
    )
    if not alternative.uses_mask:
        given = alternative(images, generator=_seeded(0), mask=mask)
        _same(given, whole, CLOSE, who, "uses_mask=False ignores the mask")
    _require(
        not fill(everything, _seeded(0), images.clone().requires_grad_(True)).requires_grad,
        who,
        "a fill carries no gradient",
        "one that does",
    )
    same = alternative.edit(images, torch.ones_like(mask), _seeded(0))
    _same(same, images, CLOSE, who, "edit with a mask of ones gives the images")
    edited = alternative.edit(images, mask, _seeded(0))
    _require((edited.shape, edited.dtype) == (images.shape, images.dtype), who, "edit keeps shape and dtype", _form(edited))


def check_term(term: Term) -> None:
    """Check a term: one finite value per image, independent of the batch, differentiable with respect to the mask.

    Raises:
        ContractError: It breaks its contract.

    Example:
        >>> from saliencykit.terms.area import Area
        >>> check_term(Area(weight=2.0))
    """
    who = f"check_term({term!r})"
    _kind(term, Term, who)
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        _check_penalty(term, _trial(size, dtype), who)


def _check_penalty(term: Term, trial: Trial, who: str) -> None:
    tensors = {f.name: getattr(trial, f.name) for f in fields(trial)}
    with untouched(who, None, **tensors):
        penalty = term(trial)
    close = CLOSE * float(penalty.detach().abs().max().clamp_min(1.0))
    _rows(lambda some: term(Trial(**{name: value[some] for name, value in tensors.items()})), penalty, close, who, "penalty")
    _same(replace(term, weight=2 * term.weight)(trial), 2 * penalty, 2 * close, who, "the weight multiplies the penalty")
    if not term.reads_logits:
        other = replace(trial, preserved=-trial.preserved, destroyed=-trial.destroyed)
        _same(term(other), penalty, close, who, "reads_logits=False does not look at the logits")
    mask = trial.mask.clone().requires_grad_(True)
    grey = torch.full_like(trial.images, 0.5)
    ask, kept, dropped = PlantedEvidence(), compose(trial.images, mask, grey), compose(trial.images, 1 - mask, grey)
    judged = term(replace(trial, mask=mask, preserved=ask(kept), destroyed=ask(dropped)))
    _require(judged.requires_grad, who, "a penalty is differentiable with respect to the mask", "one without a gradient")
    (slope,) = torch.autograd.grad(judged.sum(), mask)
    contract = "the gradient is finite, also where the mask is exactly 0 or 1"
    _require(bool(torch.isfinite(slope).all()), who, contract, "NaN or infinity in it")


def check_masker(masker: Masker, *, black_box: BlackBox | None = None, images: Images | None = None) -> None:
    """Check a masker: shape, range, same seed same mask alone and in a batch, nothing borrowed changed, query-only respected.

    Args:
        masker: What is checked; it is called about 15 times on 4 images, so give it few steps or samples.
        black_box: A box that it works on; None: PlantedEvidence (for one that reads layers, and refuses a box without any, a small
            network), and a small network that is watched for changes.
        images: At least 2 images that the box takes; None: PlantedEvidence's examples.

    Raises:
        ContractError: It breaks its contract.

    Example:
        >>> from saliencykit.maskers.boxes import CentreBox
        >>> check_masker(CentreBox())
    """
    who = f"check_masker({masker!r})"
    _kind(masker, Masker, who)
    own = black_box is None
    box = PlantedEvidence() if black_box is None else black_box
    batches = [box.examples(4, generator=_seeded(1), size=s)[0] for s in SIZES] if isinstance(box, PlantedEvidence) else []
    batches = batches if images is None else [images]
    if own and images is None and _reads_layers(masker, box, batches[0]):
        box = _box_of(small_network().eval())
    _require(bool(batches), who, "with a black_box of your own, images= that it takes are given too", "none")
    for pictures in batches:
        _check_masks(masker, box, pictures, who)
    if own:
        _check_borrowed_model(masker, who)


def _check_masks(masker: Masker, box: BlackBox, images: Images, who: str) -> None:
    labels = torch.arange(len(images)) % box.num_classes
    with untouched(who, images=images, labels=labels):
        mask = masker(box, images, labels, generator=_seeded(0))
    _require(mask.shape == (len(images), 1, *images.shape[2:]), who, "a mask is (B, 1, H, W)", _form(mask))
    masker(box, images.flip(3), labels, generator=_seeded(5))  # a call in between, which must leave nothing behind
    _same(masker(box, images, labels, generator=_seeded(0)), mask, CLOSE, who, "same images, same seed, same mask (no state)")
    _rows(lambda some: masker(box, images[some], labels[some], generator=_seeded(0)), mask, CLOSE, who, "mask")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = masker(box, images, labels, generator=_seeded(0)).clone()
        _same(inside, mask, CLOSE, who, f"it works inside {mode.__name__} as outside")
    silent = Counting(QueryOnly(box))
    if not masker.needs_gradient:
        try:
            masker(silent, images, labels, generator=_seeded(0))
        except InputError:  # one that reads the layers of the model may refuse a box that shows none
            if box.module is None:
                raise
        return
    try:
        masker(silent, images, labels, generator=_seeded(0))
    except GradientError:
        _require(not silent.asked, who, "GradientError is raised before the first query", f"{silent.images} images asked")
    else:
        raise ContractError(f"{who}: needs_gradient=True raises GradientError on a query-only box; it returned a mask.")


def _reads_layers(masker: Masker, box: BlackBox, images: Images) -> bool:
    """Does the masker refuse a box that shows no module?"""
    try:
        masker(box, images, torch.zeros(len(images), dtype=torch.int64), generator=_seeded(0))
    except InputError:
        return box.module is None
    return False


def _box_of(model: nn.Module) -> BlackBox:
    from saliencykit.black_boxes.torch_module import TorchBlackBox

    return TorchBlackBox(model, mean=(0.5,) * 3, std=(0.25,) * 3, size=16)


def _check_borrowed_model(masker: Masker, who: str) -> None:
    model = small_network().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[7].bias.grad = torch.ones(4)
    images, labels = PlantedEvidence().examples(2, generator=_seeded(1))
    with untouched(who, model, images=images, labels=labels):
        masker(_box_of(model), images, labels, generator=_seeded(0))


def check_metric(metric: Metric) -> None:
    """Check a metric: one float per image or several by name, NaN allowed, independent of the batch, nothing borrowed changed.

    Raises:
        ContractError: It breaks its contract.

    Example:
        >>> from saliencykit.metrics.saliency_score import SaliencyScore
        >>> check_metric(SaliencyScore())
    """
    who = f"check_metric({metric!r})"
    _kind(metric, Metric, who)
    up = getattr(metric, "higher_is_better", None)
    _require(isinstance(up, bool), who, "higher_is_better is True or False", repr(up))
    box, names = PlantedEvidence(), set[str]()
    for size in SIZES:
        images, labels = box.examples(4, generator=_seeded(1), size=size)
        truth = box.evidence(images, labels)
        rectangles = tuple(torch.tensor([[1.0, 2.0, 7.0, 8.0]] * n) for n in (1, 2, 0, 1))
        for boxes in (None, rectangles):
            for mask in (truth, torch.ones_like(truth), torch.zeros_like(truth), _grey(truth)):
                sample = Sample(images, labels, boxes)
                with untouched(who, images=images, labels=labels, mask=mask):
                    scores = metric(QueryOnly(box), sample, mask, explain=box.evidence, generator=_seeded(0))
                names, asked = names or set(scores), dict[tuple[int, ...], dict[str, Tensor]]()
                _require(
                    set(scores) == names, who, f"the values have the same names every time, {sorted(names)}", str(sorted(scores))
                )
                for name, value in scores.items():

                    def part(some: Tensor, name: str = name, mask: Tensor = mask, boxes: Sequence[Tensor] | None = boxes) -> Tensor:
                        key = tuple(some.tolist())
                        if key not in asked:  # noqa: B023  used within this turn of the loop
                            own = None if boxes is None else tuple(boxes[i] for i in key)
                            rows = Sample(images[some], labels[some], own)  # noqa: B023
                            asked[key] = metric(QueryOnly(box), rows, mask[some], explain=box.evidence, generator=_seeded(0))  # noqa: B023
                        return asked[key][name]  # noqa: B023

                    _rows(part, value, 10 * CLOSE * float(value.nan_to_num(0, 1, 1).abs().max().clamp_min(1)), who, name)


def _trial(size: tuple[int, int], dtype: torch.dtype) -> Trial:
    box = PlantedEvidence()
    images, labels = box.examples(6, generator=_seeded(1), size=size)
    mask = _grey(images[:, :1])
    mask[0], mask[1], mask[2] = 0, 1, (mask[2] > 0.5).float()
    logits = torch.randn(2, 6, 4, generator=_seeded(2)) * torch.tensor([0.0, 1.0, 10.0, 100.0, 1.0, 1.0])[:, None]
    real = torch.tensor([True, True, True, True, False, False])
    return Trial(images.to(dtype), labels, real, mask.to(dtype), logits[0].to(dtype), logits[1].to(dtype))


def _pictures(black_box: BlackBox, who: str) -> Images:
    from PIL import Image

    noise = torch.randint(256, (3, 90, 120, 3), generator=_seeded(1), dtype=torch.uint8).numpy()
    try:
        prepared = [black_box.prepare(Image.fromarray(picture)) for picture in noise]
    except InputError as error:
        raise InputError(f"{who} needs images=, because the box does not prepare pictures: {error}") from error
    for images, geometry in prepared:
        fits = images.ndim == 4 and len(images) == 1 and tuple(images.shape[2:]) == geometry.size and geometry.picture == (90, 120)
        _require(fits, who, "prepare returns (1, C, H, W) and the Geometry of that size", f"{_form(images)} and {geometry}")
        _require(bool((images >= 0).all() and (images <= 1).all()), who, "prepare returns raw pixels in [0, 1]", _form(images))
    return torch.cat([images for images, _ in prepared]).to(black_box.device)


def _attributes(black_box: BlackBox, who: str) -> None:
    classes, most, names = black_box.num_classes, black_box.max_batch, black_box.class_names
    _require(isinstance(classes, int) and classes >= 1, who, "num_classes is an integer >= 1", repr(classes))
    _require(isinstance(black_box.differentiable, bool), who, "differentiable is True or False", repr(black_box.differentiable))
    _require(most is None or (isinstance(most, int) and most >= 1), who, "max_batch is None or >= 1", repr(most))
    _require(isinstance(black_box.device, torch.device), who, "device is a torch.device", repr(black_box.device))
    _require(names is None or len(names) == classes, who, "class_names is None or has one name per class", f"{len(names or ())}")


def _rows(ask: Callable[[Tensor], Tensor], whole: Tensor, tolerance: float, who: str, what: str) -> None:
    """The answer to some rows, in any order, must be those rows of the answer to all."""
    order = torch.arange(len(whole)).flip(0)
    for some in (order, *(order[i : i + 1] for i in range(min(2, len(order)))), order[:-1]):
        if len(some):
            contract = f"row {some[0].item()} of the {what} depends on that image alone, not on the batch around it"
            _same(ask(some), whole[some], tolerance, who, contract)


def _same(one: Tensor, other: Tensor, tolerance: float, who: str, contract: str) -> None:
    _require(one.shape == other.shape, who, contract, f"shapes {tuple(one.shape)} and {tuple(other.shape)}")
    gap = torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).detach().abs())
    worst = float(gap.max())
    _require(worst <= tolerance, who, contract, f"a difference of {worst:.3g} (at most {tolerance:.3g})")


def _kind(thing: object, wanted: type, who: str) -> None:
    _require(isinstance(thing, wanted), who, f"it is derived from {wanted.__name__}", type(thing).__name__)


def _require(holds: bool, who: str, contract: str, came: str) -> None:
    if not holds:
        raise ContractError(f"{who}: {contract}; got {came}.")


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} from {float(tensor.min()):.4g} to {float(tensor.max()):.4g}"


def _grey(like: Tensor) -> Tensor:
    return torch.rand(like.shape, generator=_seeded(3))


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


CHECKS: Mapping[str, Callable[..., None]] = {
    "black_box": check_black_box,
    "alternative": check_alternative,
    "term": check_term,
    "masker": check_masker,
    "metric": check_metric,
}
"""The suite of each kind, by the registry's name for it."""
