"""Our maskers for Quantus' metrics: an `explain_func`, and a module around boxes that are none."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator

from saliencykit.black_boxes.model_output import OutputKind
from saliencykit.black_boxes.module_adapter import BlackBoxModule as BlackBoxModule
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.integrations.captum.forward import black_box_of_model, is_black_box, raw_pixels
from saliencykit.registry.coerce import as_masker

_CHUNK = 16  # pictures that are explained together; they do not depend on it


def explain_func(
    model: object,
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    masker: Masker | str = "rise",
    values: Literal["mask", "scores"] = "mask",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: OutputKind = "logits",
    seed: int = 0,
    device: str | torch.device | None = None,
) -> npt.NDArray[Any]:
    """Explain a batch as Quantus asks for it: `metric(..., explain_func=explain_func,
    explain_func_kwargs={"masker": "grad-cam"})`.

    Neither Quantus nor Captum is imported. A query-only classifier becomes a model for Quantus with
    `BlackBoxModule(black_box)`, and is then asked by metric and masker alike.

    Args:
        model: A torch module, as Quantus hands it on; a `BlackBoxModule` or a BlackBox is asked as it
            is.
        inputs: (B, C, H, W), what `model(x)` takes.
        targets: Class indices (B,), or one for all.
        masker: A Masker, or a text such as `rise:samples=500`.
        values: `mask`, in [0, 1], or `scores`, the signed numbers that it was made from, for
            maskers that have them.
        mean: Per channel: what pixels in [0, 1] were normalised with, so that the masker sees
            these; see `MaskerAttribution`.
        std: With `mean`.
        outputs: `logits`, or `probabilities` if the model ends in a softmax or sigmoid.
        seed: Of everything that is drawn: a picture gets the same map on its own and in a batch.
        device: Quantus says where it has put the model; the model is asked there in any case.

    Returns:
        (B, 1, H, W), float32 or the inputs' double precision.

    Raises:
        InputError: An argument cannot be used as it is, or the masker has no scores.
        GradientError: The masker needs gradients and the model can only be queried.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
        >>> x = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
        >>> explain_func(BlackBoxModule(QueryOnly(PlantedEvidence())), x, np.array([1, 2]), masker="occlusion:window=4").shape
        (2, 1, 16, 16)

    References:
        Hedström et al. 2023, "Quantus: an explainable AI toolkit for responsible evaluation of
        neural network explanations".
    """
    if values not in ("mask", "scores"):
        raise InputError(f"explain_func: values is 'mask' or 'scores'; got {values!r}.")
    chosen, parts = as_masker(masker), []
    with torch.inference_mode(False), torch.no_grad():
        images = raw_pixels(torch.as_tensor(np.array(inputs)), (mean, std))
        labels = torch.as_tensor(np.array(targets)).reshape(-1).to(torch.int64)
        if len(labels) not in (1, len(images)):
            raise InputError(
                f"explain_func got {len(labels)} targets for {len(images)} inputs; give one each, "
                "or one for all."
            )
        labels = labels.expand(len(images)).contiguous()
        black_box = black_box_of_model(model, (mean, std), outputs)
        with torch.random.fork_rng(
            devices=[black_box.device] if black_box.device.type == "cuda" else []
        ):
            black_box(images[:1].to(black_box.device))  # a box knows its classes only then
            raw = is_black_box(model) or mean is not None
            chosen = chosen.for_black_box(black_box, inputs="raw" if raw else "normalized")
            for first in range(0, len(images), _CHUNK):
                rows = slice(first, first + _CHUNK)
                found = chosen.attribute(
                    black_box,
                    images[rows].to(black_box.device),
                    labels[rows].to(black_box.device),
                    generator=Generator().manual_seed(seed),
                )
                maps = found.mask if values == "mask" else found.attributions
                if maps is None:
                    raise InputError(
                        f"{name_of(chosen)} has no scores but its mask; write values='mask'."
                    )
                parts.append(maps.cpu())
    return torch.cat(parts).numpy()
