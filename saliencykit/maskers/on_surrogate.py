"""OnSurrogate: any masker for a box that can only be queried, by way of its surrogate."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.types import Images, Labels

_SLACK = 1e-6


@final
@dataclass(frozen=True)
class OnSurrogate(Masker):
    """Finds the mask on a surrogate of the box: gradients, feature maps and trained maskers for a
    box that can only be queried.

    The box itself is not asked. Good where `surrogate.facts["fidelity"]` is small; where both
    disagree it explains the surrogate, and the check of `explain`, which the box answers (kept and
    dropped), is what says so.

    Args:
        surrogate: A Surrogate, or any other BlackBox with the same classes and the same input. In
            a text (`on-surrogate:surrogate.safetensors,masker=grad-cam`) also its file.
        masker: The masker to use on the surrogate. In a text also a name, or the file of a masker
            that was trained on it.

    Raises:
        InputError: One of the two is something else.

    Example:
        >>> from saliencykit import explain
        >>> from saliencykit.maskers import Occlusion
        >>> from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
        >>> black_box, images = PlantedEvidence(), torch.rand(2, 3, 16, 16)
        >>> masker = OnSurrogate(black_box, Occlusion())
        >>> explain(QueryOnly(black_box), images, masker=masker).mask.shape
        torch.Size([2, 1, 16, 16])

    References:
        Masks for a box from a model that imitates it: Jethani et al. 2022, "FastSHAP", section 3.2.
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
        """The inner masker's answer about the surrogate.

        Raises:
            InputError: The box has other classes, or the images are not raw pixels.
        """
        surrogate, masker = self.surrogate, self.masker
        if surrogate.num_classes != black_box.num_classes:
            raise InputError(
                f"{surrogate!r} has {surrogate.num_classes} classes and {name_of(black_box)} has "
                f"{black_box.num_classes}: it stands for another box. Give the surrogate of this "
                "one."
            )
        low, high = (float(v) for v in images.aminmax())
        if low < -_SLACK or high > 1 + _SLACK:
            raise InputError(
                f"a surrogate takes raw pixels in [0, 1]; the images have values from {low:.4g} "
                f"to {high:.4g}. Give explain a picture, or a box with pixel statistics and "
                "pixels='raw'."
            )
        there = surrogate.device
        found = masker.attribute(surrogate, images.to(there), labels.to(there), generator=generator)
        maps = (found.mask, found.attributions, found.standard_error)
        mask, scores, error = (None if part is None else part.to(images.device) for part in maps)
        assert mask is not None
        return MaskerOutput(mask, scores, error)
