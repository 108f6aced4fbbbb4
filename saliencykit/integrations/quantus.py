"""Maskers for the metrics of Quantus: an `explain_func`."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator

from saliencykit.black_boxes.module_adapter import BlackBoxModule as BlackBoxModule
from saliencykit.core import checks, rng
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.output import Output
from saliencykit.integrations.captum.forward import bind_forward, is_black_box, raw_pixels
from saliencykit.integrations.masker_values import Values, values_of
from saliencykit.registry.coerce import as_masker

_CHUNK = 16  # images at once; the results do not depend on it


def explain_func(
    model: object,
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    masker: Masker | str = "rise",
    values: Values = "mask",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: Output = "softmax",
    probabilities: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> npt.NDArray[Any]:
    """Explain a batch for Quantus.

    Write `metric(..., explain_func=explain_func, explain_func_kwargs={"masker": "grad-cam"})`.
    Neither Quantus nor Captum is imported. `BlackBoxModule(black_box)` makes a model for Quantus
    from a query-only classifier.

    Args:
        model: A torch module, as Quantus passes it; a `BlackBoxModule` or a BlackBox is queried
            directly.
        inputs: (B, C, H, W), what `model(x)` takes.
        targets: Class indices (B,), or one for all; of a model with one output, 0.
        masker: A Masker, or a text such as `rise:samples=500`.
        values: `mask`, in [0, 1], or `attributions`, the signed numbers behind it, for maskers
            that have them.
        mean: Per channel: what raw pixels in [0, 1] were normalized with, so that the masker sees
            raw pixels; see `MaskerAttribution`.
        std: With `mean`.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The model ends in a softmax or sigmoid.
        seed: Random seed; an image gets the same map alone and in a batch.
        device: Passed by Quantus and not used: the model is queried where it is.

    Returns:
        (B, 1, H, W), float32, or float64 for inputs in float64.

    Raises:
        InputError: An argument cannot be used, or the masker has no attributions.
        GradientError: The masker needs gradients and the model is query-only.

    Example:
        >>> from saliencykit.testing import PlantedEvidence, QueryOnly
        >>> x = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
        >>> model = BlackBoxModule(QueryOnly(PlantedEvidence()))
        >>> explain_func(model, x, np.array([1, 2]), masker="occlusion:window=4").shape
        (2, 1, 16, 16)

    References:
        Hedström et al. 2023, "Quantus: an explainable AI toolkit for responsible evaluation of
        neural network explanations".
    """
    checks.one_of("explain_func", get_args(Values), values=values)
    parts = []
    given = torch.as_tensor(np.array(inputs), device="cpu")
    images = raw_pixels(given, (mean, std))
    with rng.isolated(), torch.no_grad():
        black_box, shape = bind_forward(
            model,
            (),
            images[:1],
            like=given,
            statistics=(mean, std),
            output=output,
            probabilities=probabilities,
        )
    one_logit = shape in ((), (1,)) and not is_black_box(model)
    with rng.isolated(black_box.device), torch.no_grad():
        labels = torch.as_tensor(np.array(targets), device="cpu").reshape(-1).to(torch.int64)
        if len(labels) not in (1, len(images)):
            raise InputError(
                f"explain_func got {len(labels)} targets for {len(images)} inputs; give one each, "
                "or one for all."
            )
        labels = labels.expand(len(images)).contiguous()
        if one_logit and labels.any():
            raise InputError("explain_func: the model has one output, which is target 0.")
        labels = labels + int(one_logit and black_box.output != "score")  # yes, after no
        raw = is_black_box(model) or mean is not None
        chosen = as_masker(masker).bound_to(black_box, inputs="raw" if raw else "normalized")
        for first in range(0, len(images), _CHUNK):
            rows = slice(first, first + _CHUNK)
            result = chosen.attribute(
                black_box,
                images[rows].to(black_box.device),
                labels[rows].to(black_box.device),
                generator=Generator().manual_seed(seed),
            )
            parts.append(values_of(result, values, chosen).cpu())
    return torch.cat(parts).numpy()
