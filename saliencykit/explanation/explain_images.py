"""explain(): which pixels does this decision rest on?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Generator, Tensor

from saliencykit._version import __version__
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.objective import Trial, run_trial
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.data.images import as_images
from saliencykit.data.label_lookup import class_index_by_name
from saliencykit.explanation.result import Explanation
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker

_CHUNK = 16  # images that are explained together; rows do not depend on it


def explain(
    model: object,
    image: Any,
    label: int | str | Tensor | Sequence[int | str | None] | None = None,
    *,
    masker: Masker | str | None = None,
    alternative: Alternative | str | None = None,
    inputs: Literal["auto", "raw", "normalized"] = "auto",
    verify: bool = True,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Find the pixels that a classifier's decision rests on, and check the answer by asking the
    classifier again.

    Args:
        model: A torch module, a function from numpy (B, H, W, C) to (B, K), a name
            (`timm:resnet18`, `torchvision:mobilenet_v2`, `demo`), or a BlackBox.
        image: A path, a PIL picture, a numpy array (H, W, C), a tensor (C, H, W) or (B, C, H, W),
            or a list of these.
        label: The class asked about: its index, its name, or one of these per image. None: the
            model's own top class.
        masker: How the mask is found: a Masker, a text like `rise:samples=500`, or the file of a
            trained masker. None: a trained one made for exactly this model, if there is one; else
            `iterative`, or `rise` if the model can only be queried.
        alternative: What replaces the pixels outside the mask when the answer is checked: an
            Alternative or a text like `blur:sigma=11`. None: blur.
        inputs: What a tensor holds: `raw`: RGB in [0, 1]; `normalized`: what `model(x)` takes; `auto`:
            `normalized` unless a BlackBox or a name was given. Pictures are always raw.
        verify: Ask the model again with the mask kept and with the mask replaced.
        seed: Of everything that is drawn. The same seed gives the same mask, on its own or in a
            batch.
        on_progress: Called with the number of finished images and of all images after each chunk.

    Returns:
        An Explanation of the B images, on the CPU.

    Raises:
        InputError: The model, image or label cannot be used as it is; the message says what to
            write.
        GradientError: The masker needs gradients and the model can only be queried.
        RegistryError: A name is unknown.
        ContractError: The model, or a part that somebody contributed, returned what it must not.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> answer = explain(model, torch.rand(3, 32, 32), label=2, masker="iterative:steps=3")
        >>> answer.mask.shape
        torch.Size([1, 1, 32, 32])

    References:
        Dabkowski & Gal 2017, "Real Time Image Saliency for Black Box Classifiers".
    """
    started = time.perf_counter()
    black_box = as_black_box(model)
    batch = as_images(
        image, black_box, inputs=inputs, given_black_box=isinstance(model, BlackBox | str)
    )
    if batch.inputs == "normalized":
        black_box = black_box.without_preprocessing()
    chosen = default_masker(black_box) if masker is None else as_masker(masker)
    chosen = chosen.for_black_box(black_box, inputs=batch.inputs)
    fill = as_alternative("blur" if alternative is None else alternative).for_black_box(black_box)
    checks.seed(seed, "explain")
    parts = []
    with rng.isolated(black_box.device):
        for first in range(0, len(batch.images), _CHUNK):
            images = batch.images[first : first + _CHUNK].to(black_box.device)

            def choose(logits: Logits, first: int = first) -> Labels:
                return _labels(label, logits, black_box, first, len(batch.images))

            answer = explain_batch(
                black_box, chosen, images, choose, fill=fill if verify else None, seed=seed
            )
            found, trial = answer.found, answer.trial
            part = {
                "images": images,
                "labels": answer.labels,
                "mask": found.mask,
                "logits": answer.logits,
            }
            if found.attributions is not None:
                part["attributions"] = found.attributions
            if found.standard_error is not None:
                part["standard_error"] = found.standard_error
            if trial is not None:
                part |= {"preserved": trial.preserved, "destroyed": trial.destroyed}
            parts.append({key: value.detach().cpu() for key, value in part.items()})
            if on_progress is not None:
                on_progress(min(first + _CHUNK, len(batch.images)), len(batch.images))
    tensors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    provenance = {
        "saliencykit": __version__,
        "torch": torch.__version__,
        "model": repr(black_box),
        "masker": repr(chosen),
        "alternative": repr(fill) if verify else None,
        "inputs": batch.inputs,
        "sources": list(batch.sources),
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 3),
    }
    names = None if black_box.class_names is None else tuple(black_box.class_names)
    return Explanation(
        **tensors,
        class_names=names,
        source_images=tuple(batch.source_images),
        geometries=tuple(batch.geometries),
        provenance=provenance,
    )


@final
@dataclass(frozen=True)
class BatchResult:
    """What a box and a masker say of some pictures.

    Attributes:
        logits: Of the whole pictures.
        labels: The classes asked about.
        found: The masks.
        trial: What the box says of the edits; None where it was not asked.
    """

    logits: Logits
    labels: Labels
    found: MaskerOutput
    trial: Trial | None


def explain_batch(
    black_box: BlackBox,
    masker: Masker,
    images: Images,
    choose: Callable[[Logits], Labels],
    *,
    fill: Alternative | None,
    seed: int,
    fast: BlackBox | None = None,
) -> BatchResult:
    """Predict, find the masks and check them; of pictures that fit into memory together.

    Args:
        black_box: The classifier.
        masker: Made ready for it, see `Masker.for_black_box`.
        images: (B, C, H, W) on the box's device.
        choose: The labels (B,), given the logits.
        fill: What replaces pixels in the check; None: no check.
        seed: Of everything that is drawn.
        fast: The box's copy for many evaluations, if there is one; maskers other than
            RealTimeMaskers take their own.

    Raises:
        SaliencyKitError: As of `explain`.
    """
    asked, generator = fast or black_box, Generator().manual_seed(seed)
    finder, logits = masker.predict_masker(asked, images)
    labels = choose(logits)
    found = finder.attribute(black_box, images, labels, generator=generator)
    if fill is None:
        return BatchResult(logits, labels, found, None)
    with torch.no_grad():
        trial = run_trial(asked, images, labels, found.mask, alternative=fill, generator=generator)
    return BatchResult(logits, labels, found, trial)


def default_masker(black_box: BlackBox) -> Masker:
    """A trained masker made for exactly this model if a plugin or the package has one, else what
    the box allows.
    """
    return trained_masker(black_box) or as_masker(
        "iterative" if black_box.differentiable else "rise"
    )


def _labels(label: object, logits: Logits, black_box: BlackBox, first: int, total: int) -> Labels:
    """The labels of one chunk, from whatever the caller gave."""
    count = len(logits)
    top = logits.argmax(1)
    if label is None:
        return top
    wanted: Sequence[object]
    if isinstance(label, Tensor):
        wanted = [label.item()] if label.ndim == 0 else label.tolist()
    elif isinstance(label, str) or not hasattr(label, "__len__"):
        wanted = [label]
    else:
        wanted = list(label)  # type: ignore[call-overload]
    if len(wanted) == 1:
        wanted = list(wanted) * total
    if len(wanted) != total:
        raise InputError(
            f"explain got {len(wanted)} labels for {total} images; give one for all or one per "
            "image."
        )
    rows = [
        int(top[i]) if one is None else _index(one, black_box, first + i)
        for i, one in enumerate(wanted[first : first + count])
    ]
    return torch.tensor(rows, dtype=torch.int64, device=logits.device)


def _index(label: object, black_box: BlackBox, row: int) -> int:
    if isinstance(label, str):
        return class_index_by_name(label, black_box)
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InputError(
            f"a label is a class index, a class name or None; got {name_of(label)} {label!r} for "
            f"image {row}."
        )
    index = int(label.__index__())
    if not 0 <= index < black_box.num_classes:
        raise InputError(
            f"label {index} of image {row} is outside 0..{black_box.num_classes - 1}, the classes of "
            "the model."
        )
    return index
