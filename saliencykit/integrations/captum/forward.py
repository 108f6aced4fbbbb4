"""A Captum forward function as a black box."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.model_output import OutputKind
from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.types import Images
from saliencykit.integrations.captum.canvas import Canvas
from saliencykit.registry.coerce import as_black_box

Statistics = tuple[Sequence[float] | None, Sequence[float] | None]
"""Mean and standard deviation of raw pixels, per channel, that the inputs were normalised with."""


def black_box_of_model(
    model: object, statistics: Statistics = (None, None), outputs: OutputKind = "logits"
) -> BlackBox:
    """The box around a model whose inputs are given as the model takes them, or, with statistics,
    as raw pixels.

    A BlackBox, also one inside a `BlackBoxModule`, is taken as it is.

    Raises:
        InputError: Statistics were given for a box, which has its own.

    Example:
        >>> black_box_of_model(nn.Flatten())(torch.full((1, 1, 1, 2), 7.0)).tolist()
        [[7.0, 7.0]]
    """
    mean, std = statistics
    if is_black_box(model):
        if mean is not None or std is not None or outputs != "logits":
            raise InputError(
                f"{name_of(as_black_box(model))} knows its own mean, std and outputs; drop these "
                "arguments."
            )
        return as_black_box(model)
    if mean is not None or std is not None:
        if not isinstance(model, nn.Module):
            raise InputError(
                "mean and std are for a torch nn.Module that takes one picture; got "
                f"{name_of(model)}."
            )
        return TorchBlackBox(model, mean=mean, std=std, outputs=outputs)
    black_box = as_black_box(model).without_preprocessing()
    return (
        replace(black_box, outputs=outputs)
        if isinstance(black_box, TorchBlackBox) and black_box.outputs != outputs
        else black_box
    )


def raw_pixels(picture: Tensor, statistics: Statistics) -> Images:
    """Inputs as a masker sees them: in single precision or better, and not normalised if it is
    known with what they were.

    Raises:
        InputError: The statistics are for another number of channels.

    Example:
        >>> raw_pixels(torch.tensor([[[[-1.0, 1.0]]]]), ((0.5,), (0.5,))).tolist()
        [[[[0.0, 1.0]]]]
    """
    picture = picture.to(torch.promote_types(picture.dtype, torch.float32))
    mean, std = statistics
    if mean is None or std is None:
        return picture
    if not len(mean) == len(std) == picture.shape[1]:
        raise InputError(
            f"mean and std have {len(mean)} and {len(std)} channels, and the inputs "
            f"{picture.shape[1]}; give as many."
        )
    return picture * picture.new_tensor(std).view(1, -1, 1, 1) + picture.new_tensor(mean).view(
        1, -1, 1, 1
    )


def is_black_box(model: object) -> bool:
    """Is it a BlackBox or a module around one, so that images are the box's own?"""
    return isinstance(model, BlackBox | BlackBoxModule)


@final
class Forward(nn.Module):
    """A forward function of several inputs and further arguments as a module of one picture.

    Args:
        function: What Captum calls: a module, or any function of tensors.
        canvas: How its inputs lie on the picture.
        extra: The further arguments. A tensor with one row stands for every picture that is asked
            about.

    Attributes:
        sizes: The shape of one row's output, known after the first answer.

    Example:
        >>> inputs = torch.rand(2, 3), torch.rand(2, 5)
        >>> canvas = Canvas.of(inputs)
        >>> module = Forward(lambda a, b, power: (a.sum(1) + b.sum(1)) ** power, canvas, (2,))
        >>> module(canvas.picture(inputs)).shape, module.sizes
        (torch.Size([2, 1]), ())
    """

    def __init__(
        self, function: Callable[..., Any], canvas: Canvas, extra: tuple[Any, ...] = ()
    ) -> None:
        super().__init__()
        self.function, self.canvas = function, canvas
        self.extra = tuple(
            value.detach() if isinstance(value, Tensor) else value for value in extra
        )
        self.sizes: tuple[int, ...] | None = None
        # a box looks for a tensor to learn where the model lives and in which precision
        self.register_buffer(
            "where",
            torch.empty(0, dtype=canvas.dtypes[0], device=canvas.devices[0]),
            persistent=False,
        )

    def forward(self, images: Images) -> Any:
        """The function's answer, outputs of several dimensions in a line."""
        count = len(images)
        extra = (
            value.expand(count, *value.shape[1:])
            if isinstance(value, Tensor) and value.ndim and len(value) == 1
            else value
            for value in self.extra
        )
        answer = self.function(*self.canvas.split(images), *extra)
        if not isinstance(answer, Tensor):
            return answer  # the box reads it, or says why not
        if not answer.ndim or len(answer) != count:
            raise InputError(
                f"the forward function answered {count} rows with shape {tuple(answer.shape)}; "
                "MaskerAttribution asks for one answer per row, (B, ...)."
            )
        self.sizes = tuple(answer.shape[1:])
        return answer.reshape(count, -1)


@final
class Limited(BlackBoxWrapper):
    """A box that is given at most so many images at once.

    Args:
        black_box: The box.
        limit: At least 1.

    Example:
        >>> from saliencykit.testing.black_boxes import Counting, PlantedEvidence
        >>> counting = Counting(PlantedEvidence())
        >>> answer = Limited(counting, 2)(torch.rand(3, 3, 8, 8))
        >>> counting.batch_sizes
        [2, 1]
    """

    def __init__(self, black_box: BlackBox, limit: int) -> None:
        super().__init__(black_box)
        self.max_batch_size = min(limit, black_box.max_batch_size or limit)
        self._limit = limit

    def optimized_for(self, images: Images) -> BlackBox:
        """The box's copy, with the same limit."""
        return Limited(self.black_box.optimized_for(images), self._limit)


@final
class WithoutLayers(BlackBoxWrapper):
    """A box that shows no module: the feature maps of a model of several inputs are no maps over
    the canvas.

    Args:
        black_box: The box.

    Example:
        >>> WithoutLayers(black_box_of_model(nn.Flatten())).module is None
        True
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__(black_box)
        self.module = None

    def optimized_for(self, images: Images) -> BlackBox:
        """The box's copy, which shows none either."""
        return WithoutLayers(self.black_box.optimized_for(images))


def asked(
    function: Any,
    canvas: Canvas,
    extra: tuple[Any, ...],
    images: Images,
    *,
    flat: bool = True,
    statistics: Statistics = (None, None),
    outputs: OutputKind = "logits",
) -> tuple[BlackBox, tuple[int, ...]]:
    """The box of a forward function, and the shape of one row's output; the first image is asked
    about.

    A module of one picture is the box's own, so that maskers see its layers and the box has its
    fast copy.

    Args:
        function: See `Forward`; also a BlackBox.
        canvas: How the inputs lie on `images`.
        extra: See `Forward`.
        images: On the canvas; only the first is looked at.
        flat: Is the target one index, as for outputs (B, K)?
        statistics: See `black_box_of_model`.
        outputs: See `TorchBlackBox`.

    Raises:
        InputError: A BlackBox got several inputs or further arguments, or the function raised.

    Example:
        >>> x = torch.rand(2, 3, 4, 4)
        >>> asked(lambda pictures: pictures.mean((2, 3)), Canvas.of(x), (), x)[1]
        (3,)
    """
    one = len(canvas.shapes) == 1 and canvas.pictures
    if is_black_box(function) and not (one and not extra):
        raise InputError(
            "MaskerAttribution of a BlackBox takes one batch of pictures (B, C, H, W) and no "
            "additional_forward_args."
        )
    forward = Forward(function, canvas, extra)
    black_box: BlackBox = black_box_of_model(forward, statistics, outputs)
    if one and not extra and flat and isinstance(function, nn.Module | BlackBox):
        own = black_box_of_model(function, statistics, outputs)
        try:
            classes = own(images[:1].to(own.device)).shape[1]
        except ContractError:
            if is_black_box(function):
                raise
            classes = 0  # not (B, K): what it is will be seen below
        if classes not in (0, 2) or is_black_box(function):
            return own, (classes,)
        black_box(images[:1].to(black_box.device))  # two classes may be a sigmoid's one output
        return own, (classes,) if forward.sizes is None else forward.sizes
    answer = black_box(images[:1].to(black_box.device))
    return black_box if one else WithoutLayers(black_box), tuple(
        answer.shape[1:]
    ) if forward.sizes is None else forward.sizes
