"""Sample and Metric: evaluation data, and what judges masks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.types import Images, Labels, Mask, PerImage

Explain: TypeAlias = Callable[[Images, Labels], Mask]
"""Asks the masker under judgement again: another class, a mosaic."""


@final
@dataclass(frozen=True)
class Sample:
    """Evaluation data: images, labels and, where known, the boxes of the labelled class.

    Attributes:
        images: (B, C, H, W).
        labels: (B,).
        boxes: One (n, 4) tensor of x0, y0, x1, y1 per image, in pixels of `images`, x1 and y1
            exclusive; n may be 0.
        names: What each image is called, in tables and file names; None where nobody needs to know.

    Raises:
        InputError: There are more or fewer boxes or names than images.

    Example:
        >>> Sample(torch.rand(1, 3, 8, 8), torch.tensor([2]), boxes=(torch.tensor([[0.0, 0.0, 4.0, 4.0]]),)).labels.tolist()
        [2]
    """

    images: Images
    labels: Labels
    boxes: tuple[Tensor, ...] | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check that there is one entry of boxes, and one name, per image."""
        if self.boxes is not None and len(self.boxes) != len(self.images):
            raise InputError(
                f"a Sample of {len(self.images)} images takes as many box tensors; got "
                f"{len(self.boxes)}."
            )
        if self.names is not None and len(self.names) != len(self.images):
            raise InputError(
                f"a Sample of {len(self.images)} images takes as many names; got {len(self.names)}."
            )


class Metric(ABC):
    """Judges masks. Stateless: the mean over a data set is taken elsewhere.

    Example:
        >>> class MaskArea(Metric):
        ...     higher_is_better = False
        ...     def score(self, black_box, sample, mask, *, explain, generator):
        ...         return mask.mean((1, 2, 3))
    """

    higher_is_better: ClassVar[bool]

    def for_data(self, sample: Sample) -> "Metric":
        """The same metric made ready with a few pictures of the data set, the same for every
        masker; by default the metric itself.

        For metrics that need other pictures than the one that is judged, such as mosaics: a row
        must not depend on its batch.

        Args:
            sample: The first pictures of the data set.
        """
        return self

    @abstractmethod
    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> PerImage | Mapping[str, PerImage]:
        """Judge masks. Checks that retrain are commands, not metrics.

        Args:
            black_box: The classifier.
            sample: What was explained.
            mask: (B, 1, H, W) in [0, 1], of the sample's labels.
            explain: From images and labels to masks: asks the same masker again, for metrics that
                compare.
            generator: All that is random is drawn from it, by `core.draw`.

        Returns:
            One value per image, or several by name; NaN where the metric does not apply (no boxes,
            say).
        """

    @final
    def __call__(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> dict[str, PerImage]:
        """The scores by name, checked; a single one is named after the class. Arguments as of
        `score`.

        Raises:
            InputError: Sample or mask are malformed.
            ContractError: A score is not one float per image.
        """
        who = checks.name_of(self)
        checks.images(sample.images, who)
        checks.labels(sample.labels, len(sample.images), black_box.num_classes, who)
        checks.mask(mask, sample.images, "the masker")
        with torch.no_grad():
            answer = self.score(black_box, sample, mask, explain=explain, generator=generator)
        scores = dict(answer) if isinstance(answer, Mapping) else {who: answer}
        if not scores:
            raise ContractError(
                f"{who}.score returned no values; a Metric returns one float per image."
            )
        for name, value in scores.items():
            checks.per_image(value, len(sample.images), f"{who}.score[{name!r}]", nan=True)
        return scores
