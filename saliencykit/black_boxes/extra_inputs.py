"""ExtraInputs: a model of several inputs as a function of its images alone."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images


@final
class ExtraInputs(nn.Module):
    """A module that calls another one with its images and fixed further inputs.

    Args:
        model: Called as `model(images, *inputs)` or `model(images, **inputs)`.
        inputs: Of one image: tensors with a first axis of 1 are repeated for every image of a
            batch, everything else is passed as it is.

    Raises:
        InputError: The inputs are neither a sequence nor a mapping, or a tensor is for several
            images.

    Example:
        >>> import torch
        >>> model = ExtraInputs(nn.Bilinear(4, 1, 2), (torch.ones(1, 1),))
        >>> model(torch.rand(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Any] | Mapping[str, Any]) -> None:
        super().__init__()
        if isinstance(inputs, str | Tensor) or not isinstance(inputs, Sequence | Mapping):
            raise InputError(
                f"forward_args takes a tuple or a dict of further inputs; got {name_of(inputs)}: "
                "write forward_args=(value,)."
            )
        self.model, self.inputs = model, inputs
        self.training = model.training
        values = inputs.values() if isinstance(inputs, Mapping) else inputs
        wrong = [v for v in values if isinstance(v, Tensor) and v.ndim and len(v) != 1]
        if wrong:
            raise InputError(
                "forward_args are the inputs of one image, tensors (1, ...); got "
                f"{tuple(wrong[0].shape)}. Explain images with other inputs one by one."
            )

    @property
    def stands_for(self) -> nn.Module:
        """The model inside, whose name is shown."""
        return self.model

    def forward(self, images: Images) -> Any:
        """The model's output, whatever it is."""

        def repeated(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.ndim:
                return value
            return value.to(images.device).expand(len(images), *value.shape[1:])

        if isinstance(self.inputs, Mapping):
            named = {key: repeated(value) for key, value in self.inputs.items()}
            return self.model(images, **named)
        return self.model(images, *map(repeated, self.inputs))
