"""Zero-shot classifiers: CLIP and its relatives, where the rows of the classifier are texts."""

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit.black_boxes.named_models import given_options
from saliencykit.black_boxes.preprocessing import INTERPOLATIONS, Fit
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.black_boxes.transformers import processor_options
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits

_FITS: dict[str, Fit] = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # of open_clip


@final
class ZeroShotClassifier(nn.Module):
    """An image encoder whose classifier rows are embeddings of texts.

    The logit of class k is `scale * cos(encoder(x), embeddings[k]) + bias`.

    Args:
        encoder: From images to embeddings (B, D), or to an object with `.pooler_output` or
            `.image_embeds`; not changed.
        embeddings: (K, D), one per class; normalized here.
        scale: A number > 0; CLIP's is 100.
        bias: Added to every logit; 0 but for SigLIP.

    Raises:
        InputError: The embeddings are not (K, D).

    Example:
        >>> classifier = ZeroShotClassifier(nn.Flatten(), torch.eye(3, 48))
        >>> classifier(torch.rand(2, 3, 4, 4)).shape
        torch.Size([2, 3])

    References:
        Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
        Supervision", section 3.1.2.
    """

    def __init__(
        self, encoder: nn.Module, embeddings: Tensor, scale: float = 100.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        if embeddings.ndim != 2 or 0 in embeddings.shape:
            raise InputError(
                "a zero-shot classifier takes text embeddings (K, D), one row per class; got "
                f"{tuple(embeddings.shape)}."
            )
        self.encoder = encoder
        rows = F.normalize(embeddings.detach().clone(), dim=1) * scale
        self.head = nn.Linear(rows.shape[1], len(rows), dtype=rows.dtype, device=rows.device)
        self.head.weight, self.head.bias = (
            nn.Parameter(values, requires_grad=False)
            for values in (rows, rows.new_full((len(rows),), bias))
        )
        self.training = encoder.training

    def forward(self, images: Images) -> Logits:
        """Logits (B, K)."""
        logits: Tensor = self.head(F.normalize(_pooled(self.encoder(images)), dim=1))
        return logits


@final
class _Tower(nn.Module):
    """The image side of a model of transformers: its tower, then its projection."""

    def __init__(self, tower: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection
        self.training = tower.training

    def forward(self, images: Images) -> Tensor:
        projected: Tensor = self.projection(_pooled(self.tower(images)))
        return projected


def zero_shot_black_box(
    model: nn.Module,
    class_names: Sequence[str],
    tokenizer: Callable[..., Any] | None = None,
    *,
    embeddings: Tensor | None = None,
    prompt: str = "a photo of a {}",
    processor: Any = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
) -> TorchBlackBox:
    """CLIP, SigLIP or any image encoder as a classifier whose classes are texts.

    The text side runs once, here; afterwards it is an image classifier as any other.

    Args:
        model: A CLIPModel or SiglipModel of transformers, a model of open_clip or OpenAI's clip, or
            any encoder from images to embeddings (B, D).
        class_names: The classes, such as `["cat", "dog"]`.
        tokenizer: From a list of texts to what the text side takes: the tokenizer or processor of
            transformers, `open_clip.get_tokenizer(name)`. None: `embeddings` are given.
        embeddings: (K, D) of your own, such as averages over several prompts.
        prompt: The text of a class; `{}` is its name.
        processor: The image processor of transformers. None: that of open_clip, if there is one;
            else mean, std and size are needed for image files, not for tensors.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel, with `mean`.
        size: Side or (height, width) of the input in pixels.

    Raises:
        InputError: There are neither a tokenizer nor embeddings, or they do not fit.

    Example:
        >>> encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        >>> black_box = zero_shot_black_box(encoder, ["cat", "dog"], embeddings=torch.eye(2, 12))
        >>> black_box(torch.rand(1, 3, 8, 8)).shape
        torch.Size([1, 2])
    """
    if embeddings is None:
        if tokenizer is None:
            raise InputError(
                f"{name_of(model)} needs texts: write zero_shot_black_box(model, ['cat', 'dog'], "
                "tokenizer), or give embeddings= (K, D)."
            )
        embeddings = _embedded(model, [prompt.format(name) for name in class_names], tokenizer)
    if len(embeddings) != len(class_names):
        raise InputError(
            f"there are {len(class_names)} class_names and {len(embeddings)} embeddings; give one "
            "row per class."
        )
    scale, bias = _number(model, "logit_scale"), _number(model, "logit_bias")
    classifier = ZeroShotClassifier(
        _image_side(model),
        embeddings,
        100.0 if scale is None else math.exp(scale),
        bias or 0.0,
    )
    options = _preprocessing(model, processor) | given_options(mean=mean, std=std, size=size)
    return TorchBlackBox(
        classifier,
        output="softmax" if bias is None else "sigmoid",
        class_names=tuple(class_names),
        **options,
    )


def _embedded(model: Any, texts: list[str], tokenizer: Callable[..., Any]) -> Tensor:
    """The text side's embeddings (K, D)."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad():
        if hasattr(model, "get_text_features"):  # transformers; SigLIP was trained with padding
            longest = model.config.text_config.max_position_embeddings
            options = {"padding": "max_length", "max_length": longest, "truncation": True}
            tokens = tokenizer(text=texts, return_tensors="pt", **options)
            return _pooled(
                model.get_text_features(**{key: value.to(device) for key, value in tokens.items()})
            )
        if hasattr(model, "encode_text"):
            return _pooled(model.encode_text(tokenizer(texts).to(device)))
    raise InputError(
        f"{name_of(model)} has neither get_text_features nor encode_text; give embeddings= (K, D)."
    )


def _number(model: nn.Module, name: str) -> float | None:
    value = getattr(model, name, None)
    return None if value is None else float(torch.as_tensor(value, device="cpu").detach())


def _image_side(model: nn.Module) -> nn.Module:
    tower = getattr(model, "vision_model", None)
    if isinstance(tower, nn.Module):
        projection = getattr(model, "visual_projection", None)
        return _Tower(tower, projection if isinstance(projection, nn.Module) else nn.Identity())
    visual = getattr(model, "visual", None)
    return visual if isinstance(visual, nn.Module) else model


def _preprocessing(model: nn.Module, processor: Any) -> dict[str, Any]:
    """Options of TorchBlackBox, from the image processor or open_clip's configuration."""
    if processor is not None:
        return processor_options(processor, getattr(model, "config", None))
    config: dict[str, Any] = getattr(_image_side(model), "preprocess_cfg", None) or {}
    if not config:
        return {}
    filter_name = config.get("interpolation", "bicubic")
    return {
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "size": config["size"] if isinstance(config["size"], int) else tuple(config["size"]),
        "fit": _FITS.get(config.get("resize_mode", "shortest"), "crop"),
        "interpolation": filter_name if filter_name in INTERPOLATIONS else "bicubic",
    }


def _pooled(output: Any) -> Tensor:
    """The embeddings in what an encoder returned."""
    for name in ("image_embeds", "text_embeds", "pooler_output"):
        value = getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    value = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(value, Tensor) or value.ndim != 2:
        raise InputError(
            f"the encoder returned {name_of(output)}; expected embeddings (B, D). Wrap it in a "
            "small nn.Module that returns them."
        )
    return value
