"""Alternative: what stands where the mask is 0; and compose, the one line that edits an image."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError
from saliencykit.core.types import Images, Mask


def compose(images: Images, mask: Mask, fill: Images) -> Images:
    """`images * mask + fill * (1 - mask)`. The only line of the package that edits an image.

    Args:
        images: `X`, (B, C, H, W).
        mask: `M`, (B, 1, H, W) in [0, 1]; 1 keeps, 0 replaces.
        fill: `A`, what stands where the mask is 0, as large as the images.

    Example:
        >>> x, a = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
        >>> compose(x, torch.full((1, 1, 2, 2), 0.25), a).unique().tolist()
        [0.25]

    References:
        Dabkowski & Gal 2017, section 3, the edit function Phi.
    """
    return images * mask + fill * (1 - mask)


def value_range(images: Images) -> tuple[Tensor, Tensor]:
    """The range that each picture's values live in, two tensors (B, 1, 1, 1): [0, 1], widened to
    what the picture holds.

    Raw pictures have the range [0, 1]. Images in model space reach beyond it, and an alternative
    that needs a scale (a random colour, grey) takes it from here, so that it works in both.

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
    """What stands where the mask is 0: `A` in `X*M + A*(1-M)`. Carries no gradient.

    Example:
        >>> class Black(Alternative):
        ...     def fill(self, images, generator, mask=None):
        ...         return torch.zeros_like(images)
        >>> Black()(torch.ones(1, 3, 2, 2), generator=torch.Generator()).sum().item()
        0.0
    """

    uses_mask: ClassVar[bool] = False
    """Does `fill` look at the mask (inpainting, imputation)? The linear invariants hold only where
    it does not.
    """

    @abstractmethod
    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """What replaces, of the same shape, dtype and device as `images`.

        Args:
            images: (B, C, H, W), finite.
            generator: All that is random is drawn from it, by `core.draw`.
            mask: (B, 1, H, W), for what depends on the mask (`uses_mask`); None: fill the whole
                picture.
        """

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """`compose` with one fill; overridden only by what is not one fill (a blur pyramid,
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
        """This alternative for pictures of one box; by default itself.

        Args:
            black_box: The box; only what depends on its normalisation (`Constant(color="baseline_color")`)
                looks at it.
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
        kind = images.device.type
        with (
            torch.no_grad(),
            torch.autocast(kind, enabled=False)
            if torch.is_autocast_enabled(kind)
            else nullcontext(),
        ):
            fill = self.fill(images.detach(), generator, None if mask is None else mask.detach())
        if not isinstance(fill, Tensor) or (fill.shape, fill.dtype, fill.device) != (
            images.shape,
            images.dtype,
            images.device,
        ):
            came = (
                f"{tuple(fill.shape)} {fill.dtype} on {fill.device}"
                if isinstance(fill, Tensor)
                else checks.name_of(fill)
            )
            wanted = f"{tuple(images.shape)} {images.dtype} on {images.device}"
            raise ContractError(
                f"{who} returned {came}; expected the images' own {wanted}: make it with "
                "torch.zeros_like(images)."
            )
        if bad := checks.finite_rows(fill):
            raise ContractError(
                f"{who} returned NaN or infinite values in row {bad[0]}; a fill is finite: look "
                "for 0 / 0."
            )
        return fill
