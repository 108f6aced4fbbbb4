"""fit_surrogate(): train a differentiable surrogate of a model that can only be queried."""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saliencykit._version import __version__
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import round_to_half
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.core.types import Logits
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import refuse_inside
from saliencykit.data.training_images import read_training_images
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box
from saliencykit.runs.resumed_run import run_in
from saliencykit.surrogate.distillation import SurrogateStep, distill
from saliencykit.surrogate.fidelity import RULE, is_low
from saliencykit.surrogate.masked_images import MaskedImages
from saliencykit.surrogate.queries import MEMORY, Queries
from saliencykit.surrogate.query_cache import QueryCache
from saliencykit.surrogate.student import Student

_FEWEST = 50  # queries
_EPOCHS = 12
_LONGEST = 300  # characters of the model's repr in the metadata
_STEPS = (300, 4000)


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
        every = read_training_images(dataset, memory=MEMORY // 2, seed=seed, who="fit_surrogate")
        drawn = Queries.of(every, queries, fill, seed)
        say(drawn.summary(every))
        student = Student(network, original, every.pixels.shape[1:], where)
        student.check()
        source_hash = drawn.source_hash(original, every, fill, seed)
        answers = _answers(original, drawn.images, source_hash, directory, resume, tell, say)
        torch.manual_seed(seed)
        learner, architecture = student.untrained(answers.shape[1])
        training = drawn.images.rows(slice(drawn.checks, None))
        count = steps or max(_STEPS[0], min(_STEPS[1], _EPOCHS * len(training) // batch_size))
        together = min(batch_size, len(training))
        say(f"{architecture['kind']} network on {where}: {count} steps, batch size {together}")
        torch.manual_seed(seed)
        options: dict[str, Any] = {"steps": count, "batch_size": batch_size, "lr": lr, "seed": seed}
        distill(learner, training, answers[drawn.checks :], on_step=tell, **options)
        round_to_half(learner.model)
        figures = drawn.fidelity(learner, answers)
    metadata = _metadata(original, drawn, fill, figures) | options
    metadata["images"] = len(every) - drawn.held_out
    metadata["seconds"] = round(time.perf_counter() - started, 1)
    if metadata["low_fidelity"]:
        _warn(figures)
    return student.trained(learner, architecture, metadata)


def _check(queries: int, steps: int | None, batch_size: int, lr: float, seed: int) -> None:
    checks.counts("fit_surrogate", _FEWEST, queries=queries)
    checks.counts("fit_surrogate", steps=steps)
    checks.counts("fit_surrogate", 2, batch_size=batch_size)  # for batch norms
    checks.numbers("fit_surrogate", "(0, 1)", lr=lr)
    checks.seed(seed, "fit_surrogate")


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device, dtype=torch.float32).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"fit_surrogate(device={str(device)!r}) cannot be used: {str(error).splitlines()[0]}"
        ) from error


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


def _metadata(
    original: BlackBox, queries: Queries, fill: Alternative, figures: dict[str, Any]
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
