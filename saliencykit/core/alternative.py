"""Alternative: what replaces the pixels that a mask removes; and compose, which edits an image."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError
from saliencykit.core.types import Images, Mask


def compose(images: Images, mask: Mask, fill: Images) -> Images:
    """`images * mask + fill * (1 - mask)`. The only line of the package that edits an image.

    Args:
        images: `X`, (B, C, H, W).
        mask: `M`, (B, 1, H, W) in [0, 1]; 1 keeps, 0 replaces.
        fill: `A`, the replacement, of the same shape as the images.

    Example:
        >>> x, a = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
        >>> compose(x, torch.full((1, 1, 2, 2), 0.25), a).unique().tolist()
        [0.25]

    References:
        Dabkowski & Gal 2017, section 3, the edit function Phi.
    """
    return images * mask + fill * (1 - mask)


def value_range(images: Images) -> tuple[Tensor, Tensor]:
    """The value range of each image, two tensors (B, 1, 1, 1): [0, 1], widened to the values of
    that image.

    Raw images have the range [0, 1], normalized ones reach beyond it. An alternative that needs a
    scale (a random color, gray) takes it from here and so works for both.

    Args:
        images: (B, C, H, W).

    Example:
        >>> low, high = value_range(torch.tensor([[[[-2.0, 0.5]]]]))
        >>> low.item(), high.item()
        (-2.0, 1.0)
    """
    low, high = images.detach().flatten(1).aminmax(dim=1)
    return low.clamp_max(0).view(-1, 1, 1, 1), high.clamp_min(1).view(-1, 1, 1, 1)


class Alternative(ABC):
    """What replaces the pixels that a mask removes: `A` in `X*M + A*(1-M)`. Carries no gradient.

    Example:
        >>> class Black(Alternative):
        ...     def fill(self, images, generator, mask=None):
        ...         return torch.zeros_like(images)
        >>> Black()(torch.ones(1, 3, 2, 2), generator=torch.Generator()).sum().item()
        0.0
    """

    uses_mask: ClassVar[bool] = False
    """Does `fill` depend on the mask (inpainting, imputation)? Edits are linear in the mask only if
    not.
    """

    def __post_init__(self) -> None:
        """Check the fields of a dataclass."""
        check_fields(self)

    @abstractmethod
    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The replacement, of the same shape, dtype and device as `images`.

        Args:
            images: (B, C, H, W), finite.
            generator: Draw from it with `core.rng`, so that an image gets the same fill alone and
                in a batch.
            mask: (B, 1, H, W), for alternatives with `uses_mask`; None: fill the whole image.
        """

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """`compose` with one fill; overridden only where an edit is not one fill (a blur pyramid,
        cropping).

        Args:
            images: (B, C, H, W).
            mask: (B, 1, H, W) in [0, 1]; gradients flow back to it.
            generator: The fill is drawn from it.

        Returns:
            The edited images, (B, C, H, W).
        """
        return compose(images, mask, self(images, generator=generator, mask=mask))

    def for_black_box(self, black_box: BlackBox) -> "Alternative":
        """The alternative made ready for one black box; by default itself.

        Args:
            black_box: The classifier; `Constant(color="zero")`, for example, needs its
                normalization.
        """
        return self

    @final
    def __call__(self, images: Images, *, generator: Generator, mask: Mask | None = None) -> Images:
        """The fill, checked, without gradient.

        Raises:
            InputError: `images` is not a finite float tensor (B, C, H, W).
            ContractError: The fill differs from `images` in shape, dtype or device, or is not
                finite.
        """
        who = f"{checks.name_of(self)}.fill"
        checks.images(images, who)
        device = images.device.type
        autocast_off = (
            torch.autocast(device, enabled=False)
            if torch.is_autocast_enabled(device)
            else nullcontext()
        )
        with torch.no_grad(), autocast_off:
            fill = self.fill(images.detach(), generator, None if mask is None else mask.detach())
        wanted = f"{tuple(images.shape)} {images.dtype} on {images.device}"
        came = checks.name_of(fill)
        if isinstance(fill, Tensor):
            came = f"{tuple(fill.shape)} {fill.dtype} on {fill.device}"
        if came != wanted:
            raise ContractError(
                f"{who} returned {came}; expected {wanted}, as the images: make it with "
                "torch.zeros_like(images)."
            )
        if bad := checks.finite_rows(fill):
            raise ContractError(
                f"{who} returned NaN or infinite values in row {bad[0]}; a fill is finite: look "
                "for 0 / 0."
            )
        return fill
