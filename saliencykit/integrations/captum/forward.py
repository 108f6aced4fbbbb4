"""A Captum forward function as a black box."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from types import SimpleNamespace
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.output import Output
from saliencykit.core.types import Images
from saliencykit.registry.coerce import as_black_box

Statistics: TypeAlias = tuple[Sequence[float] | None, Sequence[float] | None]
"""Mean and standard deviation per channel that the inputs were normalized with."""


def black_box_of_model(
    model: object,
    statistics: Statistics = (None, None),
    output: Output = "softmax",
    probabilities: bool = False,
) -> BlackBox:
    """The black box around a model.

    Args:
        model: A torch module or a function; a BlackBox, or a `BlackBoxModule` around one, is used
            as it is.
        statistics: The black box then takes raw pixels, and normalizes them with these. None: it
            takes what the model takes.
        output: See `TorchBlackBox`.
        probabilities: See `TorchBlackBox`.

    Raises:
        InputError: Statistics were given for a black box, which has its own.

    Example:
        >>> black_box_of_model(nn.Flatten())(torch.full((1, 1, 1, 2), 7.0)).tolist()
        [[7.0, 7.0]]
    """
    mean, std = statistics
    if is_black_box(model):
        if mean is not None or std is not None or (output, probabilities) != ("softmax", False):
            raise InputError(
                f"{name_of(as_black_box(model))} has its own mean, std and output; leave these "
                "arguments out."
            )
        return as_black_box(model)
    if mean is not None or std is not None:
        if not isinstance(model, nn.Module):
            raise InputError(f"mean and std need a torch nn.Module; got {name_of(model)}.")
        return TorchBlackBox(model, mean=mean, std=std, output=output, probabilities=probabilities)
    black_box = as_black_box(model).without_preprocessing()
    if isinstance(black_box, TorchBlackBox):
        return replace(black_box, output=output, probabilities=probabilities)
    return black_box


def raw_pixels(images: Images, statistics: Statistics) -> Images:
    """Images as a masker sees them: at least float32, and denormalized if the statistics are known.

    Raises:
        InputError: The statistics have another number of channels.

    Example:
        >>> raw_pixels(torch.tensor([[[[-1.0, 1.0]]]]), ((0.5,), (0.5,))).tolist()
        [[[[0.0, 1.0]]]]
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    mean, std = statistics
    if mean is None or std is None:
        return images
    if not len(mean) == len(std) == images.shape[1]:
        raise InputError(
            f"mean and std have {len(mean)} and {len(std)} channels, the inputs have "
            f"{images.shape[1]}."
        )
    scale, offset = (images.new_tensor(values).view(1, -1, 1, 1) for values in (std, mean))
    return images * scale + offset


def is_black_box(model: object) -> bool:
    """Whether it is a BlackBox or a module around one, so that inputs are its images."""
    return isinstance(model, BlackBox | BlackBoxModule)


@final
class Forward(nn.Module):
    """A forward function with its additional arguments, as a module of images.

    Args:
        function: What Captum calls: a module or any function of tensors.
        extra: The additional arguments; a tensor with one row is expanded to the batch.
        like: A tensor with the dtype and device that the function takes.

    Example:
        >>> x = torch.rand(2, 3, 4, 4)
        >>> module = Forward(lambda images, power: images.mean((1, 2, 3)) ** power, (2,), like=x)
        >>> module(x).shape, module.output_shape
        (torch.Size([2, 1]), ())
    """

    def __init__(self, function: Callable[..., Any], extra: tuple[Any, ...], like: Tensor) -> None:
        super().__init__()
        self.function = function
        self.extra = tuple(each.detach() if isinstance(each, Tensor) else each for each in extra)
        self._seen: Any = SimpleNamespace(shape=None)  # shared with the copies that run
        self.dtype, self.device = like.dtype, like.device
        # TorchBlackBox looks for a tensor to learn the device and dtype
        self.register_buffer("like", like.new_empty(0), persistent=False)

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of one row's output; None before the first call."""
        shape: tuple[int, ...] | None = self._seen.shape
        return shape

    def forward(self, images: Images) -> Any:
        """The function's output; further dimensions are flattened."""
        count = len(images)
        extra = (
            each.expand(count, *each.shape[1:])
            if isinstance(each, Tensor) and each.ndim and len(each) == 1
            else each
            for each in self.extra
        )
        output = self.function(images.to(self.device, self.dtype).contiguous(), *extra)
        if not isinstance(output, Tensor):
            return output  # the black box reads it, or says why not
        if not output.ndim or len(output) != count:
            raise InputError(
                f"the forward function returned shape {tuple(output.shape)} for {count} rows; "
                "MaskerAttribution needs one output per row, (B, ...)."
            )
        self._seen.shape = tuple(output.shape[1:])
        return output.reshape(count, -1)


@final
class Limited(BlackBoxWrapper):
    """A black box that gets at most a given number of images at once.

    Args:
        black_box: The black box.
        limit: At least 1.

    Example:
        >>> from saliencykit.testing import Counting, PlantedEvidence
        >>> counting = Counting(PlantedEvidence())
        >>> logits = Limited(counting, 2)(torch.rand(3, 3, 8, 8))
        >>> counting.batch_sizes
        [2, 1]
    """

    def __init__(self, black_box: BlackBox, limit: int) -> None:
        super().__init__(black_box)
        self.max_batch_size = min(limit, black_box.max_batch_size or limit)
        self._limit = limit

    def around(self, black_box: BlackBox) -> "Limited":
        """Another black box with the same limit."""
        return Limited(black_box, self._limit)


def bind_forward(
    function: Any,
    extra: tuple[Any, ...],
    image: Images,
    *,
    like: Tensor,
    several_dimensions: bool = False,
    statistics: Statistics = (None, None),
    output: Output = "softmax",
    probabilities: bool = False,
) -> tuple[BlackBox, tuple[int, ...]]:
    """The black box of a forward function, and the shape of one row's output.

    A module without additional arguments becomes a black box itself, so that maskers see its layers
    and it is optimized. The function is called once.

    Args:
        function: See `Forward`; also a BlackBox.
        extra: See `Forward`.
        image: (1, C, H, W).
        like: See `Forward`.
        several_dimensions: Whether a target has several indices, for outputs (B, ...).
        statistics: See `black_box_of_model`.
        output: See `TorchBlackBox`.
        probabilities: See `TorchBlackBox`.

    Raises:
        InputError: A BlackBox got additional arguments, or the function raised.

    Example:
        >>> x = torch.rand(2, 3, 4, 4)
        >>> bind_forward(lambda images: images.mean((2, 3)), (), x[:1], like=x)[1]
        (3,)
    """
    if is_black_box(function):
        if extra:
            raise InputError("MaskerAttribution of a BlackBox takes no additional_forward_args.")
        black_box = black_box_of_model(function, statistics, output, probabilities)
        return black_box, (black_box(image.to(black_box.device)).shape[1],)
    forward = Forward(function, extra, like)
    bound = black_box_of_model(forward, statistics, output, probabilities)
    if isinstance(function, nn.Module) and not extra and not several_dimensions:
        own = black_box_of_model(function, statistics, output, probabilities)
        try:
            classes = own(image.to(own.device)).shape[1]
        except ContractError:
            classes = 0  # not (B, K)
        if classes not in (0, 2):
            return own, (classes,)
        bound(image.to(bound.device))  # two classes may be the single output of a sigmoid
        shape = forward.output_shape or (classes,)
        return _whole_logit(own, shape, image), shape
    logits = bound(image.to(bound.device))
    known = forward.output_shape
    shape = tuple(logits.shape[1:]) if known is None else known
    return _whole_logit(bound, shape, image), shape


def _whole_logit(black_box: BlackBox, shape: tuple[int, ...], image: Images) -> BlackBox:
    """The black box, with a single logit z read as `-z, z` and not as `-z/2, z/2`: the
    probabilities are the same, and the gradient of yes is that of z, as in Captum.
    """
    single = prod(shape) == 1 and black_box.output == "softmax"
    if not single or not isinstance(black_box, TorchBlackBox):
        return black_box
    whole = replace(black_box, output="sigmoid")
    whole(image.to(whole.device))  # then the number of classes is known
    return whole
