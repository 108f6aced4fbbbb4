"""Image classifiers of Hugging Face transformers, by name, as objects and in pipelines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL.Image import Resampling
from torch import nn

from saliencykit.black_boxes.named_models import given_options
from saliencykit.black_boxes.preprocessing import Fit
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.core.output import Output
from saliencykit.core.visible_text import first_line
from saliencykit.storage.hub_access import no_retries_when_offline

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5,) * 3, (0.5,) * 3)
# model types whose published weights were trained with pixels in [-1, 1]
_IN_HALVES = ("beit", "mobilenet_v1", "mobilenet_v2", "siglip", "siglip2", "vit")
_OUTPUTS: dict[str, Output] = {"multi_label_classification": "sigmoid", "regression": "score"}


def transformers_black_box(
    model: str | nn.Module,
    processor: Any = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    output: Output | None = None,
    max_batch_size: int | None = None,
) -> TorchBlackBox:
    """A Hugging Face image classifier: `transformers:google/vit-base-patch16-224`.

    Class names come from `id2label`; size, crop, mean and std from the image processor; what an
    output means from `problem_type` (one label of many, several labels, a regression).

    Args:
        model: A name or directory as `from_pretrained` takes it, or the model itself.
        processor: Its image processor. None: the one saved with the weights; if there is none, mean
            and std are guessed from the type of the model, and a warning says so when an image is
            prepared.
        mean: Per channel, for pixels in [0, 1]; overrides the processor's.
        std: Per channel, with `mean`.
        size: Side or (height, width) of the input in pixels; overrides the processor's.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`. None: as
            `problem_type` says.
        max_batch_size: The largest batch that the model gets.

    Raises:
        InputError: The model cannot be loaded, is not an image classifier, or its processor does
            something that mean, std and size do not describe.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> config = ViTConfig(image_size=32, hidden_size=16, num_hidden_layers=1,
        ...                    num_attention_heads=1, intermediate_size=16, num_labels=5)
        >>> transformers_black_box(ViTForImageClassification(config)).input_size
        (32, 32)
    """
    if isinstance(model, str):
        model = _pretrained(model)
    black_box = wrap_transformers(model, processor)
    if black_box is None:
        raise InputError(
            f"{name_of(model)} is not an image classifier of transformers; give a name, or a model "
            "such as AutoModelForImageClassification.from_pretrained(name)."
        )
    options = given_options(
        mean=mean, std=std, size=size, output=output, max_batch_size=max_batch_size
    )
    if mean is not None:
        options["assumed"] = ""
    return replace(black_box, **options)


def wrap_transformers(model: object, processor: Any = None) -> TorchBlackBox | None:
    """A black box around an image classifier of transformers or its pipeline; None for anything
    else.

    Args:
        model: Any object; a model is recognized by `config.id2label` and by `pixel_values` as its
            main input, a pipeline by `task`, `model` and `image_processor`.
        processor: The image processor, if the user has given it.

    Raises:
        InputError: It is a model of transformers that does not classify images.
    """
    own = getattr(model, "model", None)
    if hasattr(model, "task") and hasattr(model, "image_processor") and own is not None:
        if model.task != "image-classification":
            raise InputError(
                f"a pipeline for {model.task} is not an image classifier; explain its model, "
                "or the function from images to scores that you are interested in."
            )
        return wrap_transformers(own, processor or model.image_processor)
    config: Any = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or not hasattr(config, "id2label"):
        return None
    _check_classifies(model)
    labels: dict[Any, str] = dict(config.id2label or {})
    processor = processor or _saved_processor(config)
    guessed = processor is None
    options = _guess(config) if guessed else processor_options(processor, config)
    black_box = TorchBlackBox(
        model,
        **options,
        output=_OUTPUTS.get(str(getattr(config, "problem_type", "")), "softmax"),
        class_names=tuple(labels[key] for key in sorted(labels, key=int)) or None,
    )
    black_box._state["guessed"] = guessed
    return black_box


def _check_classifies(model: nn.Module) -> None:
    who = name_of(model)
    if getattr(model, "main_input_name", "pixel_values") != "pixel_values":
        raise InputError(
            f"{who} does not take images alone; explain a function from images to scores: "
            "FunctionBlackBox(function, ...)."
        )


def processor_options(processor: Any, config: Any) -> dict[str, Any]:
    """What an image processor does, as options of `TorchBlackBox`.

    Args:
        processor: An image processor of transformers, or a processor that has one.
        config: The model's, for the size if the processor does not resize.

    Raises:
        InputError: It does something else with the pixels, such as swapping channels.
    """
    processor = getattr(processor, "image_processor", processor)
    if getattr(processor, "do_flip_channel_order", False):
        raise InputError(
            f"{name_of(processor)} swaps the channels to BGR; write TorchBlackBox(model, mean=..., "
            "std=..., size=...) around a module that swaps them, x.flip(1)."
        )
    scale = 255 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", False):
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    size, fit, crop_pct = _size(processor, config)
    return {
        "mean": tuple(value / scale for value in mean),
        "std": tuple(value / scale for value in std),
        "size": size,
        "fit": fit,
        "crop_pct": crop_pct,
        "interpolation": Resampling(getattr(processor, "resample", 2) or 0).name.lower(),
    }


def _size(processor: Any, config: Any) -> tuple[tuple[int, int], Fit, float]:
    """Height and width of the input, how an image is brought to it, and the crop's fraction."""

    def sides(name: str) -> tuple[int | None, int | None, int | None]:
        value = getattr(processor, name, None) or {}
        value = value if isinstance(value, int) else dict(value)
        if isinstance(value, int):
            return value, value, None
        return value.get("height"), value.get("width"), value.get("shortest_edge")

    height, width, short = sides("size")
    resizes, crops = getattr(processor, "do_resize", True), getattr(processor, "do_center_crop", 0)
    if not resizes or (height, short) == (None, None):
        return _config_size(config), "squash", 1.0
    if crops:
        tall, wide, _ = sides("crop_size")
        target = (int(tall or height or short or 0), int(wide or width or short or 0))
        if short is not None:
            return target, "crop", min(1.0, min(target) / short)
        return target, "squash", min(1.0, target[0] / int(height or target[0]))
    if height is not None and width is not None:
        return (height, width), "squash", 1.0
    side = int(short or 0)
    crop_pct = getattr(processor, "crop_pct", None)
    if crop_pct is None:
        return (side, side), "crop", 1.0
    # ConvNeXt's processor: large sizes are squashed, small ones are cropped out of more
    return ((side, side), "squash", 1.0) if side >= 384 else ((side, side), "crop", crop_pct)


def _config_size(config: Any) -> tuple[int, int]:
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or 224
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _guess(config: Any) -> dict[str, Any]:
    kind = str(getattr(config, "model_type", ""))
    mean, std = _HALF if kind in _IN_HALVES else _IMAGENET
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        return {"size": _config_size(config)}
    return {
        "mean": mean,
        "std": std,
        "size": _config_size(config),
        "fit": "squash",
        "assumed": f"usual for {kind!r}, transformers_black_box(model, processor) knows",
    }


def _saved_processor(config: Any) -> Any:
    """The image processor that is saved beside the model's weights on this machine, or None;
    nothing is downloaded.
    """
    name = getattr(config, "_name_or_path", None)
    if not name:
        return None
    try:
        import transformers

        load: Any = transformers.AutoImageProcessor.from_pretrained
        return load(name, local_files_only=True)
    except Exception:  # not saved, or transformers is not installed: the model is a look-alike
        return None


def _pretrained(name: str) -> Any:
    """An image classifier with trained weights, the head's included."""
    transformers = required("transformers", f"transformers:{name}", "transformers")
    load: Any = transformers.AutoModelForImageClassification.from_pretrained
    try:
        with no_retries_when_offline():
            model, info = load(name, output_loading_info=True)
    except Exception as error:
        raise InputError(
            f"transformers could not load {name!r}: {first_line(error)}. Give the name of an image "
            "classifier on the hub, or, without a network, the directory that save_pretrained "
            "wrote: 'transformers:my-model'."
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{name!r} has no weights for {', '.join(missing[:3])}: it is not an image classifier. "
            "For CLIP and SigLIP write zero_shot_black_box(model, ['cat', 'dog'], tokenizer)."
        )
    return model
