"""OnSurrogate: any masker for a query-only black box, by way of its surrogate."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels

_TOLERANCE = 1e-6  # for pixels outside [0, 1]


@final
@dataclass(frozen=True)
class OnSurrogate(Masker):
    """A masker for a query-only black box that runs on its surrogate, which has gradients, feature
    maps and trained maskers.

    The black box itself is not queried. Good where the two models agree, see
    `surrogate.metadata["fidelity"]`. Where they disagree the mask explains the surrogate; the
    probabilities that `explain` reports (kept and dropped) come from the black box, and show it.

    Args:
        surrogate: A Surrogate, or any other BlackBox with the same classes and the same input. In
            a text (`on-surrogate:surrogate.safetensors,masker=grad-cam`) also its file.
        masker: The masker to use on the surrogate. In a text also a name, or the file of a masker
            that was trained on it.

    Raises:
        InputError: One of the two is something else.

    Example:
        >>> import torch
        >>> from saliencykit import explain
        >>> from saliencykit.maskers import Occlusion
        >>> from saliencykit.testing import PlantedEvidence, QueryOnly
        >>> black_box, images = PlantedEvidence(), torch.rand(2, 3, 16, 16)
        >>> masker = OnSurrogate(black_box, Occlusion())
        >>> explain(QueryOnly(black_box), images, masker=masker).mask.shape
        torch.Size([2, 1, 16, 16])

    References:
        Masks for a black box from a model that imitates it: Jethani et al. 2022, "FastSHAP",
        section 3.2.
    """

    surrogate: BlackBox
    masker: Masker

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the types."""
        if not isinstance(self.surrogate, BlackBox) or not isinstance(self.masker, Masker):
            raise InputError(
                f"OnSurrogate takes a BlackBox and a Masker; got {name_of(self.surrogate)} and "
                f"{name_of(self.masker)}. For names and files write "
                "masker='on-surrogate:surrogate.safetensors,masker=grad-cam'."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The output of the inner masker for the surrogate.

        Raises:
            InputError: The black box has other classes, or the images are not raw pixels.
        """
        surrogate = self.surrogate
        if surrogate.num_classes != black_box.num_classes:
            raise InputError(
                f"{surrogate!r} has {surrogate.num_classes} classes and {name_of(black_box)} has "
                f"{black_box.num_classes}: it is the surrogate of another model. Pass the "
                "surrogate of this one."
            )
        low, high = (float(v) for v in images.aminmax())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise InputError(
                f"a surrogate takes raw pixels in [0, 1]; the images have values from {low:.4g} "
                f"to {high:.4g}. Pass an image file to explain, or raw pixels to a black box that "
                "normalizes them (inputs='raw')."
            )
        device = surrogate.device
        output = self.masker.attribute(
            surrogate, images.to(device), labels.to(device), generator=generator
        )
        tensors = {k: v for k, v in vars(output).items() if isinstance(v, Tensor)}
        maps: dict[str, Any] = {k: v.to(images.device) for k, v in tensors.items()}
        return replace(output, **maps)
