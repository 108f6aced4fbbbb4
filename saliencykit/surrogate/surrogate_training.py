"""fit_surrogate(): train a differentiable surrogate of a model that can only be queried."""

import hashlib
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from saliencykit._version import __version__
from saliencykit.black_boxes.preprocessing_inference import infer_preprocessing
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import make_surrogate_network, round_to_half
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.core.types import Logits
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import refuse_inside
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box
from saliencykit.runs.resumed_run import run_in
from saliencykit.surrogate.distillation import SurrogateStep, distill
from saliencykit.surrogate.fidelity import RULE, fidelity, is_low
from saliencykit.surrogate.masked_images import (
    AREAS,
    MaskedImages,
    held_out_images,
    training_images,
)
from saliencykit.surrogate.query_cache import QueryCache

_HELD_OUT = 64  # images for the fidelity check, at most; a fifth of a small set or budget
_FEWEST = 50  # queries
_EPOCHS = 12
_LONGEST = 300  # characters of the model's repr in the metadata
_STEPS = (300, 4000)
_MEMORY = 4 * 2**30  # bytes for the masked images, at most
_VIEWS = 1 + len(AREAS)  # of each held-out image


def fit_surrogate(
    model: object,
    images: Any,
    *,
    network: str | nn.Module | None = None,
    alternative: Alternative | str = "choice",
    queries: int = 5000,
    steps: int | None = None,
    batch_size: int = 64,
    lr: float = 3e-3,
    device: str | torch.device | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    on_step: Callable[[SurrogateStep], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Surrogate:
    """Train a small network to answer like a model that can only be queried, so that a masker can
    be trained on it.

    The model is queried with whole and masked images, each once, and the network is distilled from
    its answers; then both are compared on held-out images. Good with many images like those that
    will be explained. Bad with few, or where the model looks at details that a small network does
    not see: `metadata["fidelity"]` says which, and a low fidelity is warned about. The model is
    never changed.

    Args:
        model: As for `explain`; any model, differentiable or not.
        images: As for `fit`; labels are ignored. Hundreds are enough; five is the least.
        network: None or `own`: a small network trained from scratch. `timm:resnet18`: a timm model
            with its weights (`timm:resnet18,pretrained=false` without). Or an nn.Module, which is
            copied: it takes (B, C, H, W), normalized, and returns logits (B, K).
        alternative: What replaces masked pixels; use the one that `fit` and `explain` will use.
        queries: Number of images the model is queried with, >= 50, never more. At most a fifth is
            used for the fidelity check.
        steps: Training steps. None: twelve epochs, 300 to 4000.
        batch_size: Images per step, >= 2.
        lr: Peak learning rate, in (0, 1).
        device: Where to train. None: the model's device.
        checkpoint_dir: Keeps the answers as they arrive: an interrupted call queries only what is
            missing, and a larger budget adds to a smaller one with the same images and seed.
        resume: Use the answers in the directory. False: delete them.
        seed: Random seed in [0, 2**63).
        on_step: Called with each SurrogateStep.
        on_message: Called with a line of text when a stage begins.

    Returns:
        The surrogate; `save` it. `fit(surrogate, images)` trains a masker on it, which
        `OnSurrogate` applies to the model.

    Raises:
        InputError: The model, the images or an argument cannot be used; the message says why.
        ContractError: The model returned NaN; the message names the image.
        SaliencyKitError: The disk is full, or the loss was not finite.

    Warns:
        ReliabilityWarning: Low fidelity: less than 80% with the same top class, or 0.15 or more
            between the probabilities of that class, over whole and masked held-out images.

    Example:
        >>> from saliencykit.testing import PlantedEvidence, QueryOnly
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, _ = black_box.examples(8, generator=g)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # five steps are too few
        ...     surrogate = fit_surrogate(QueryOnly(black_box), images, queries=50, steps=5)
        >>> surrogate.differentiable, surrogate.metadata["queries"]
        (True, 50)

    References:
        Jethani, Sudarshan, Covert, Lee & Ranganath 2022, "FastSHAP: Real-Time Shapley Value
        Estimation", section 3.2 and appendix (the surrogate); Frye et al. 2021, "Shapley
        explainability on the data manifold", section 3.2.
    """
    started, say = time.perf_counter(), on_message or (lambda line: None)
    tell = on_step or (lambda step: None)
    _check(queries, steps, batch_size, lr, seed)
    original = as_black_box(model)
    if original.output == "score":
        raise InputError(
            "fit_surrogate distills probabilities, and this model returns scores; explain it with "
            "masker='rise', or distill it with torch and explain your own network."
        )
    fill = as_alternative(alternative).for_black_box(original)
    where = original.device if device is None else _device(device)
    directory = None if checkpoint_dir is None else Path(checkpoint_dir).expanduser()
    with ExitStack() as held:
        held.enter_context(rng.isolated(where, seeded=True))
        if directory is not None:
            refuse_inside(directory, images, "fit_surrogate")
            held.enter_context(run_in(directory, resume=resume))
        dataset = Dataset.open(images, original, use_labels=False)
        every = read_training_images(dataset, memory=_MEMORY // 2, seed=seed, who="fit_surrogate")
        drawn = _Queries.of(every, queries, fill, seed)
        say(drawn.summary(every))
        channels, height, width = every.pixels.shape[1:]
        size = (height, width)
        _try_network(network, original, size, channels, where)
        source_hash = _source_hash(original, every, drawn.held_out, fill, seed)
        answers = _answers(original, drawn.images, source_hash, directory, resume, tell, say)
        torch.manual_seed(seed)
        student, architecture = _student(network, original, answers.shape[1], size, channels, where)
        training = drawn.images.rows(slice(drawn.checks, None))
        count = steps or max(_STEPS[0], min(_STEPS[1], _EPOCHS * len(training) // batch_size))
        together = min(batch_size, len(training))
        say(f"{architecture['kind']} network on {where}: {count} steps, batch size {together}")
        torch.manual_seed(seed)
        options: dict[str, Any] = {"steps": count, "batch_size": batch_size, "lr": lr, "seed": seed}
        distill(student, training, answers[drawn.checks :], on_step=tell, **options)
        round_to_half(student.model)
        figures = _compare(student, drawn, answers)
    metadata = _metadata(original, drawn, fill, figures) | options
    metadata["images"] = len(every) - drawn.held_out
    metadata["seconds"] = round(time.perf_counter() - started, 1)
    if metadata["low_fidelity"]:
        _warn(figures)
    return _surrogate(student, original, answers.shape[1], size, channels, architecture, metadata)


def _check(queries: int, steps: int | None, batch_size: int, lr: float, seed: int) -> None:
    if not isinstance(queries, int) or queries < _FEWEST:
        raise InputError(
            f"fit_surrogate(queries={queries!r}): must be an integer >= {_FEWEST}; thousands are "
            "better."
        )
    if steps is not None and steps < 1:
        raise InputError(f"fit_surrogate(steps={steps}): must be >= 1.")
    if batch_size < 2:
        raise InputError(
            f"fit_surrogate(batch_size={batch_size}): batch norms need at least 2 images."
        )
    if not 0 < lr < 1:
        raise InputError(f"fit_surrogate(lr={lr}): the learning rate must be in (0, 1).")
    checks.seed(seed, "fit_surrogate")


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device, dtype=torch.float32).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"fit_surrogate(device={str(device)!r}) cannot be used: {str(error).splitlines()[0]}"
        ) from error


@final
@dataclass(frozen=True)
class _Queries:
    """The images that the model is queried with: those of the fidelity check come first.

    Attributes:
        images: All of them.
        held_out: How many source images are held out.
    """

    images: MaskedImages
    held_out: int

    @property
    def checks(self) -> int:
        """How many queries belong to the fidelity check."""
        return self.held_out * _VIEWS

    @classmethod
    def of(cls, every: TrainingImages, queries: int, fill: Alternative, seed: int) -> "_Queries":
        """Draw the queries; raises InputError if they do not fit into memory."""
        held = max(1, min(_HELD_OUT, len(every) // 5, queries // 5 // _VIEWS))
        per_image = every.pixels[0].numel()
        if queries * per_image > _MEMORY:
            raise InputError(
                f"fit_surrogate(queries={queries}) needs {queries * per_image / 2**30:.0f} GiB for "
                f"the images; at most {_MEMORY // per_image} fit."
            )
        order = torch.randperm(
            len(every), generator=torch.Generator().manual_seed(seed), device="cpu"
        )
        first, rest = (TrainingImages(every.pixels[i], None) for i in (order[:held], order[held:]))
        checks = held_out_images(first, fill, seed)
        training = training_images(rest, queries - len(checks), fill, seed)
        # numbered as the user gave them
        source = torch.cat([order[:held][checks.source], order[held:][training.source]])
        pixels, area = (
            torch.cat([getattr(checks, name), getattr(training, name)])
            for name in ("pixels", "area")
        )
        return cls(MaskedImages(pixels, source, area), held)

    def summary(self, every: TrainingImages) -> str:
        """What is about to happen, in one line."""
        height, width = every.pixels.shape[2:]
        return (
            f"{len(every)} images of {height}x{width}, {self.held_out} of them held out; "
            f"{len(self.images)} queries, {self.checks} of them for the fidelity check"
        )


def _try_network(
    network: str | nn.Module | None,
    original: BlackBox,
    size: tuple[int, int],
    channels: int,
    device: torch.device,
) -> None:
    """Run the network once before the model is queried, which may cost money.

    Raises:
        InputError: There is no such network, or it does not return logits for these images.
    """
    # not `num_classes`: a model that does not know it would be queried
    classes = len(original.class_names) if original.class_names else None
    trial, _, _ = make_surrogate_network(network, classes or 2, size, channels)
    images = torch.zeros(2, channels, *size, device=device, dtype=torch.float32)
    try:
        with torch.no_grad():
            logits = trial.to(device).eval()(images)
    except Exception as error:
        raise InputError(
            f"the network {name_of(trial)} fails on images {tuple(images.shape)}: "
            f"{reason_of(error)}"
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else name_of(logits)
    known = isinstance(network, nn.Module) and classes is not None
    if not isinstance(shape, tuple) or len(shape) != 2 or (known and shape[1] != classes):
        raise InputError(
            f"a surrogate's network returns logits (B, {classes or 'K'}); {name_of(trial)} "
            f"returned {shape} for images {tuple(images.shape)}."
        )


def _student(
    network: str | nn.Module | None,
    original: BlackBox,
    classes: int,
    size: tuple[int, int],
    channels: int,
    device: torch.device,
) -> tuple[TorchBlackBox, dict[str, Any]]:
    """The network that is trained, as a black box, and its architecture as plain data."""
    net, architecture, statistics = make_surrogate_network(network, classes, size, channels)
    mean, std = statistics or (original.baseline_color or (0.5,) * channels, (0.25,) * channels)
    student = TorchBlackBox(net.to(device), mean=mean, std=std, size=size, output=original.output)
    return student, architecture


def _surrogate(
    student: TorchBlackBox,
    original: BlackBox,
    classes: int,
    size: tuple[int, int],
    channels: int,
    architecture: dict[str, Any],
    metadata: dict[str, Any],
) -> Surrogate:
    """The trained network with the class names and the preprocessing of the original."""
    preprocessing = infer_preprocessing(original, size, channels)
    return Surrogate(
        student,
        classes,
        size,
        class_names=original.class_names,
        baseline_color=original.baseline_color,
        preprocessing=preprocessing,
        architecture=architecture,
        metadata=metadata,
        prepared_by=None if preprocessing is not None else original,
    )


def _source_hash(
    original: BlackBox, every: TrainingImages, held_out: int, fill: Alternative, seed: int
) -> str:
    """A short hash of model, images and settings: what cached answers belong to."""
    pixels = hashlib.sha256(every.pixels.contiguous().numpy().data).hexdigest()
    # not the model's repr, which may contain an address or a counter
    model = f"{name_of(original)} {original.class_names} {fingerprint(original)}"
    settings = f"{held_out} {every.pixels.shape} {pixels} {fill!r} {seed}"
    return hashlib.sha256(f"{model} {settings}".encode()).hexdigest()[:16]


def _answers(
    original: BlackBox,
    images: MaskedImages,
    source_hash: str,
    directory: Path | None,
    resume: bool,
    tell: Callable[[SurrogateStep], None],
    say: Callable[[str], None],
) -> Logits:
    cache = QueryCache(
        original,
        images,
        source_hash,
        directory,
        resume=resume,
        on_progress=lambda done, total: tell(SurrogateStep("querying", done, total)),
    )
    if len(cache):
        count = min(len(cache), len(images))
        say(f"{count} of {len(images)} answers are in {directory}")
    return cache.logits()


def _compare(
    student: TorchBlackBox, queries: _Queries, answers: Logits
) -> dict[str, dict[str, Any]]:
    images = queries.images.rows(slice(0, queries.checks))
    with torch.no_grad():
        parts = [
            student(images.images(index).to(student.device)).cpu()
            for index in torch.split(torch.arange(len(images), device="cpu"), 64)
        ]
    kinds = ["whole", *(f"{area:.0%} kept" for area in AREAS)]
    rows = {
        kind: torch.arange(i, len(images), _VIEWS, device="cpu") for i, kind in enumerate(kinds)
    }
    return fidelity(torch.cat(parts), answers[: queries.checks], rows, student.output)


def _metadata(
    original: BlackBox, queries: _Queries, fill: Alternative, figures: dict[str, Any]
) -> dict[str, Any]:
    return {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "black_box": repr(original)[:_LONGEST],
        "fingerprint": fingerprint(original),
        "queries": len(queries.images),
        "held_out": queries.held_out,
        "alternative": repr(fill),
        "fidelity": figures,
        "low_fidelity": is_low(figures),
        "rule": RULE,
    }


def _warn(figures: dict[str, Any]) -> None:
    every = figures["all"]
    warnings.warn(
        "the surrogate has low fidelity: over whole and masked held-out images it predicts the "
        f"model's top class in {every['agreement']['mean']:.0%}, and the probabilities of that "
        f"class are {every['difference']['mean']:.2f} apart on average. Masks computed on it may "
        "say little about the model. More images, queries and steps help, and so does a network "
        "with the weights of a similar task.",
        ReliabilityWarning,
        stacklevel=3,
    )
