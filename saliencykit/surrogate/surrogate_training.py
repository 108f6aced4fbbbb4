"""fit_surrogate(): a differentiable stand-in for a box that can only be queried."""

import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Logits
from saliencykit.data.dataset import Dataset
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box
from saliencykit.surrogate.distillation import SurrogateStep, distill
from saliencykit.surrogate.fidelity import RULE, fidelity, is_large
from saliencykit.surrogate.masked_images import (
    AREAS,
    MaskedImages,
    held_out_pictures,
    training_pictures,
)
from saliencykit.surrogate.query_cache import QueryCache

# pictures that the surrogate is judged on, at most; a fifth of a small set, and of a small budget
_HELD_OUT = 64
_FEWEST = 50  # queries
_EPOCHS = 12
_LONGEST = 300  # letters of a box's text in the facts
_STEPS = (300, 4000)
_MEMORY = 4 * 2**30  # bytes for the masked pictures, at most


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
    """Teach a small network to answer like a box that can only be queried, so that a masker can be
    trained on it.

    The box is asked about whole and masked pictures, each once, and the network learns its answers;
    then both are compared on pictures that it did not learn from. Good where there are many
    pictures like those that will be explained; bad where there are few, or where the box looks at
    details that a small network does not see: `metadata["fidelity"]` says which, and a warning
    when it is large. The box is never changed.

    Args:
        model: As for `explain`; any box, differentiable or not.
        images: As for `fit`; labels are not looked at. Hundreds do; five is the least.
        network: None or `own`: a small one from nothing. A name of timm, `timm:resnet18`, with its
            weights (`timm:resnet18,pretrained=false` without). Or an nn.Module, which is copied: it
            takes (B, C, H, W), normalised, and returns logits (B, K).
        alternative: What stands where a picture is masked; the one that `fit` and the check will
            use.
        queries: Pictures that the box is asked about in all, >= 50, never more. A fifth at most
            goes into judging.
        steps: Of learning. None: twelve times through what was asked, 300 to 4000.
        batch_size: Pictures a step, >= 2.
        lr: The largest learning rate, in (0, 1).
        device: Where to learn. None: the box's device.
        checkpoint_dir: Where the box's answers are kept as they come: a call that was stopped asks only
            what is missing, and a larger budget adds to a smaller one of the same pictures and
            seed.
        resume: Use the answers in the folder. False: delete them.
        seed: Of everything that is drawn.
        on_step: Called with each SurrogateStep.
        on_message: Called with a line of text when something begins.

    Returns:
        The surrogate; `save` it, and `fit(surrogate, pictures)` trains a masker on it, which
        `OnSurrogate` brings back to the box.

    Raises:
        InputError: The model, the pictures or an argument cannot be used as they are.
        ContractError: The box answered with NaN; the message names the picture.
        SaliencyKitError: The disk is full, or the loss was not finite.

    Warns:
        UserWarning: The surrogate and the box disagree much: less than 80 % with the same top
            class, or 0.15 or more between their probabilities of the class asked about, over whole
            and masked held-out pictures.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # five steps teach nothing
        ...     surrogate = fit_surrogate(QueryOnly(black_box), black_box.examples(8, generator=g)[0], queries=50, steps=5)
        >>> surrogate.differentiable, surrogate.metadata["queries"]
        (True, 50)

    References:
        Jethani, Sudarshan, Covert, Lee & Ranganath 2022, "FastSHAP: Real-Time Shapley Value
        Estimation", section 3.2 and appendix (the surrogate); Frye et al. 2021, "Shapley
        explainability on the data manifold", section 3.2.
    """
    started = time.perf_counter()
    say, tell = on_message or (lambda line: None), on_step or (lambda step: None)
    _check(queries, steps, batch_size, lr, seed)
    original = as_black_box(model)
    fill = as_alternative(alternative).for_black_box(original)
    where = original.device if device is None else _device(device)
    with rng.isolated(where):
        every = read_training_images(
            Dataset.open(images, original, use_labels=False),
            memory=_MEMORY // 2,
            seed=seed,
            who="fit_surrogate",
        )
        asked, held = _asked(every, queries, fill, seed)
        say(
            f"{len(every)} pictures of {every.pixels.shape[3]}x{every.pixels.shape[2]}, {held} of "
            f"them held out; {len(asked)} queries, {held * (1 + len(AREAS))} of them for judging"
        )
        answers = _answers(
            original,
            asked,
            f"{held} {every.pixels.shape} {_some(every)} {fill!r} {seed}",
            checkpoint_dir,
            resume,
            tell,
            say,
        )
        size, channels = (every.pixels.shape[2], every.pixels.shape[3]), every.pixels.shape[1]
        black_box, architecture = _network(
            network, answers.shape[1], size, channels, original, where, seed
        )
        judged = held * (1 + len(AREAS))
        lesson = _rows(asked, slice(judged, None))
        count = steps or max(_STEPS[0], min(_STEPS[1], _EPOCHS * len(lesson) // batch_size))
        say(
            f"{architecture['kind']} network on {black_box.device}: {count} steps, "
            f"{min(batch_size, len(lesson))} pictures at a time"
        )
        torch.manual_seed(seed)
        distill(
            black_box,
            lesson,
            answers[judged:],
            steps=count,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            on_step=tell,
        )
        round_to_half(black_box.model)
        figures = _judge(black_box, _rows(asked, slice(0, judged)), answers[:judged])
    facts = {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "black_box": repr(original)[:_LONGEST],
        "fingerprint": fingerprint(original),
        "queries": len(asked),
        "pictures": len(every) - held,
        "held_out": held,
        "alternative": repr(fill),
        "steps": count,
        "batch": batch_size,
        "lr": lr,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "disagreement": figures,
        "large": is_large(figures),
        "rule": RULE,
    }
    if facts["large"]:
        warnings.warn(_advice(figures), stacklevel=2)
    preprocessing = infer_preprocessing(original, size, channels)
    return Surrogate(
        black_box,
        answers.shape[1],
        size,
        class_names=original.class_names,
        baseline_color=original.baseline_color,
        preprocessing=preprocessing,
        architecture=architecture,
        metadata=facts,
        prepared_by=None if preprocessing is not None else original,
    )


def _check(queries: int, steps: int | None, batch: int, lr: float, seed: int) -> None:
    if not isinstance(queries, int) or queries < _FEWEST:
        raise InputError(
            f"fit_surrogate(queries={queries!r}): a whole number >= {_FEWEST}; thousands are "
            "better."
        )
    if steps is not None and steps < 1:
        raise InputError(f"fit_surrogate(steps={steps}): steps are >= 1.")
    if batch < 2:
        raise InputError(f"fit_surrogate(batch={batch}): batch norms need at least 2 pictures.")
    if not 0 < lr < 1:
        raise InputError(f"fit_surrogate(lr={lr}): a learning rate in (0, 1).")
    checks.seed(seed, "fit_surrogate")


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"fit_surrogate(device={str(device)!r}) cannot be used: {str(error).splitlines()[0]}"
        ) from error


def _asked(
    every: TrainingImages, queries: int, fill: Alternative, seed: int
) -> tuple[MaskedImages, int]:
    """What the box will be asked about, and how many pictures are held out: their rows come first."""
    views = 1 + len(AREAS)
    held = max(1, min(_HELD_OUT, len(every) // 5, queries // 5 // views))
    needed = queries * every.pixels[0].numel()
    if needed > _MEMORY:
        fit_in = _MEMORY // every.pixels[0].numel()
        raise InputError(
            f"fit_surrogate(queries={queries}) needs {needed / 2**30:.0f} GiB for the pictures; "
            f"at most {fit_in} fit."
        )
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    judged = held_out_pictures(TrainingImages(every.pixels[order[:held]], None), fill, seed)
    taught = training_pictures(
        TrainingImages(every.pixels[order[held:]], None), queries - len(judged), fill, seed
    )
    # numbered as the user gave them
    rows = (
        order[:held][judged.picture],
        order[held:][taught.picture],
    )
    return MaskedImages(
        torch.cat([judged.pixels, taught.pixels]),
        torch.cat(rows),
        torch.cat([judged.area, taught.area]),
    ), held


def _answers(
    original: BlackBox,
    asked: MaskedImages,
    settings: str,
    folder: str | Path | None,
    resume: bool,
    tell: Callable[[SurrogateStep], None],
    say: Callable[[str], None],
) -> Logits:
    # not its repr, which may hold an address or a counter
    words = f"{name_of(original)} {original.class_names} {fingerprint(original)} {settings}"
    about = hashlib.sha256(words.encode()).hexdigest()[:16]
    answers = QueryCache(
        original,
        asked,
        about,
        None if folder is None else Path(folder).expanduser(),
        resume=resume,
        on_asked=lambda done: tell(SurrogateStep("asking", done, len(asked))),
    )
    if len(answers):
        say(f"{min(len(answers), len(asked))} of {len(asked)} answers are in {folder}")
    return answers.ask()


def _some(every: TrainingImages) -> str:
    """A hash of some pixels of each picture."""
    return hashlib.sha256(
        every.pixels.flatten(1)[:, ::97].contiguous().numpy().tobytes()
    ).hexdigest()


def _network(
    network: str | nn.Module | None,
    classes: int,
    size: tuple[int, int],
    channels: int,
    original: BlackBox,
    device: torch.device,
    seed: int,
) -> tuple[TorchBlackBox, dict[str, Any]]:
    torch.manual_seed(seed)
    made, architecture, statistics = make_surrogate_network(network, classes, size, channels)
    mean, std = statistics or (original.baseline_color or (0.5,) * channels, (0.25,) * channels)
    return TorchBlackBox(made.to(device), mean=mean, std=std, size=size), architecture


def _judge(
    black_box: TorchBlackBox, judged: MaskedImages, answers: Logits
) -> dict[str, dict[str, Any]]:
    with torch.no_grad():
        parts = [
            black_box(judged.images(index).to(black_box.device)).cpu()
            for index in torch.split(torch.arange(len(judged)), 64)
        ]
    kinds = ["whole", *(f"{area:.0%} kept" for area in AREAS)]
    places = {
        kind: torch.arange(number, len(judged), len(kinds)) for number, kind in enumerate(kinds)
    }
    return fidelity(torch.cat(parts), answers, places)


def _rows(asked: MaskedImages, part: slice) -> MaskedImages:
    return MaskedImages(asked.pixels[part], asked.picture[part], asked.area[part])


def _advice(figures: dict[str, Any]) -> str:
    every = figures["all"]
    return (
        "the surrogate and its box disagree much: over whole and masked held-out pictures they "
        f"name the same class in {every['agreement']['mean']:.0%}, and their probabilities of the "
        f"class asked about are {every['difference']['mean']:.2f} apart on average. Masks found "
        "on it may say little about the box; more pictures, queries and steps help, and a "
        "network that begins with the weights of a similar task."
    )
