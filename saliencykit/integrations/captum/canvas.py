"""Canvas: any inputs of a Captum forward function as one batch of pictures, and back."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images

_WHO = "MaskerAttribution"


@final
@dataclass(frozen=True)
class Canvas:
    """How the inputs lie on one picture.

    Pictures of equal height and number of channels lie side by side. Anything else (vectors,
    sequences, a mixture) becomes a line of single numbers, (B, 1, 1, N), where a pixel is a
    feature.

    Args:
        shapes: Of each input, without its rows. `Canvas.of` reads all three from the inputs.
        dtypes: Of each input.
        devices: Of each input.

    Raises:
        InputError: `of` was given something else than float tensors with at least two dimensions
            and equally many rows.

    Example:
        >>> inputs = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 1)
        >>> canvas = Canvas.of(inputs)
        >>> canvas.picture(inputs).shape, Canvas.of(torch.rand(2, 7)).picture((torch.rand(2, 7),)).shape
        (torch.Size([2, 3, 4, 6]), torch.Size([2, 1, 1, 7]))
        >>> [tensor.shape for tensor in canvas.split(torch.rand(9, 3, 4, 6))]
        [torch.Size([9, 3, 4, 5]), torch.Size([9, 3, 4, 1])]
    """

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]

    @staticmethod
    def of(inputs: Any) -> "Canvas":
        """The canvas of a tensor or a tuple of tensors."""
        tensors = as_tuple(inputs)
        for tensor in tensors:
            if (
                not isinstance(tensor, Tensor)
                or not tensor.is_floating_point()
                or tensor.ndim < 2
                or 0 in tensor.shape
            ):
                came = (
                    f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                    if isinstance(tensor, Tensor)
                    else name_of(tensor)
                )
                raise InputError(
                    f"{_WHO}.attribute takes inputs as float tensors (B, ...) with no empty side; "
                    f"got {came}. Numbers of words and other whole numbers are not pixels: "
                    "attribute to their embeddings, or give them as additional_forward_args."
                )
        if not tensors or len({len(tensor) for tensor in tensors}) > 1:
            raise InputError(
                f"{_WHO}.attribute takes inputs with equally many rows; got "
                f"{[len(t) for t in tensors]}."
            )
        return Canvas(
            tuple(t.shape[1:] for t in tensors),
            tuple(t.dtype for t in tensors),
            tuple(t.device for t in tensors),
        )

    @property
    def pictures(self) -> bool:
        """Are the inputs pictures, side by side?"""
        return all(len(shape) == 3 and shape[:2] == self.shapes[0][:2] for shape in self.shapes)

    def picture(self, tensors: tuple[Tensor, ...]) -> Images:
        """The tensors, (n, *shape) each, as one batch (n, C, H, W), on the first one's device."""
        here = [tensor.to(tensors[0].device) for tensor in tensors]
        if self.pictures:
            return torch.cat(here, 3)
        return torch.cat([tensor.flatten(1) for tensor in here], 1)[:, None, None]

    def split(self, picture: Tensor) -> tuple[Tensor, ...]:
        """A batch on the canvas, (n, C, H, W), as tensors (n, *shape), in the dtype and on the
        device of the inputs, contiguous.
        """
        if self.pictures:
            parts = torch.split(picture, [shape[2] for shape in self.shapes], 3)
        else:
            parts = torch.split(picture.flatten(1), [shape.numel() for shape in self.shapes], 1)
        return tuple(
            part.reshape(len(part), *shape).to(dtype=dtype, device=device).contiguous()
            for part, shape, dtype, device in zip(
                parts, self.shapes, self.dtypes, self.devices, strict=True
            )
        )

    def spread(self, given: Any, count: int, what: str) -> Tensor:
        """Baselines or feature masks, one per input, on the canvas: (1, C, H, W), or (`count`, C,
        H, W) if one has several rows.

        Args:
            given: A number, or a tensor that can be expanded to (1 or B, *shape); a tuple of these
                for several inputs.
            count: B.
            what: For the error.

        Raises:
            InputError: They do not fit the inputs.
        """
        values = (given,) * len(self.shapes) if isinstance(given, int | float) else as_tuple(given)
        if len(values) != len(self.shapes):
            raise InputError(
                f"{_WHO}.attribute({what}=...) takes one for each of {len(self.shapes)} inputs; "
                f"got {len(values)}."
            )
        parts = []
        for value, shape, dtype, device in zip(
            values, self.shapes, self.dtypes, self.devices, strict=True
        ):
            if isinstance(value, Tensor):
                part = value.detach().to(device)
            elif isinstance(value, int | float):
                part = torch.tensor(value, dtype=dtype, device=device)
            else:
                raise InputError(
                    f"{_WHO}.attribute({what}=...) takes numbers and tensors; got {name_of(value)}."
                )
            rows = len(part) if part.ndim > len(shape) else 1
            try:
                if rows not in (1, count):
                    raise RuntimeError
                parts.append(part.expand(rows, *shape))
            except RuntimeError:
                raise InputError(
                    f"{_WHO}.attribute({what}=...): shape {tuple(part.shape)} does not fit inputs "
                    f"of shape {(count, *shape)}; give a number, one row (1, ...) for all or one "
                    f"row for each of the {count}."
                ) from None
        rows = max(len(part) for part in parts)
        return self.picture(tuple(part.expand(rows, *part.shape[1:]) for part in parts))


def as_tuple(given: Any) -> tuple[Any, ...]:
    """A tuple as it is, anything else as a tuple of one."""
    return given if isinstance(given, tuple) else (given,)
