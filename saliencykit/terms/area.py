"""Area: the size of the mask."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from saliencykit.core.objective import Term, Trial
from saliencykit.core.types import PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Area(Term):
    """The mean of the mask, in [0, 1].

    Args:
        weight: See Term.

    Example:
        >>> Area(weight=8.0).weight
        8.0

    References:
        Dabkowski & Gal 2017, equation 1, the term AV.
    """

    reads_logits: ClassVar[bool] = False

    def penalty(self, trial: Trial) -> PerImage:
        """The mean of each mask."""
        return trial.mask.mean((1, 2, 3))


@final
@dataclass(frozen=True, kw_only=True)
class PowerArea(Term):
    """The mean of `(M + offset)^power`: with a power below 1 a nearly binary mask costs less than a
    gray one of the same area.

    Args:
        weight: See Term.
        power: In (0, 1].
        offset: Keeps the slope at 0 finite, > 0.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> PowerArea(weight=8.0).power
        0.3

    References:
        The authors' published code (`sal/utils/mask.py`: power 0.3, offset 0.0005).
    """

    power: Annotated[float, "(0, 1]"] = 0.3
    offset: Annotated[float, "(0, inf]"] = 5e-4

    reads_logits: ClassVar[bool] = False

    def penalty(self, trial: Trial) -> PerImage:
        """The mean power of each mask, > 0."""
        return (trial.mask + self.offset).pow(self.power).mean((1, 2, 3))


@final
@dataclass(frozen=True, kw_only=True)
class LogArea(Term):
    """`log(1 + mean(M) / offset)`: a mask that grows by half costs the same whether the object is
    small or large.

    With a plain mean each pixel costs the same for every object: a weight that keeps the masks of
    small objects small cuts pieces off large ones. This is a smooth form of the area term of the
    paper's saliency metric.

    Args:
        weight: See Term.
        offset: The fraction of the image below which area is nearly free, > 0; the saliency metric
            ignores areas below 0.05.

    Raises:
        InputError: The offset is not positive.

    Example:
        >>> LogArea(weight=3.0).offset
        0.05

    References:
        After Dabkowski & Gal 2017, section 5.2, the saliency metric `log(max(a, 0.05)) - log(p)`.
    """

    offset: Annotated[float, "(0, inf)"] = 0.05

    reads_logits: ClassVar[bool] = False

    def penalty(self, trial: Trial) -> PerImage:
        """The logarithm, >= 0; 3.04 for the whole image with the default offset."""
        return (1 + trial.mask.mean((1, 2, 3)) / self.offset).log()


AREAS = (Area, PowerArea, LogArea)
"""The terms that penalize area: a wanted area adjusts their weight."""
