"""Metric: a score of masks; and Sample, the data that it is computed on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.types import Images, Labels, Mask, PerImage

Explain: TypeAlias = Callable[[Images, Labels], Mask]
"""Calls the evaluated masker again: for another class, on a mosaic."""


@final
@dataclass(frozen=True)
class Sample:
    """Evaluation data: images, labels and, where known, bounding boxes of the labeled class.

    Attributes:
        images: (B, C, H, W).
        labels: (B,).
        boxes: One (n, 4) tensor of x0, y0, x1, y1 per image, in pixels of `images`, x1 and y1
            exclusive; n may be 0.
        names: A name for each image, for tables and file names, or None.
        inside: (B, 1, H, W) in [0, 1]: 1 where the evidence should be, such as the outline of the
            object; all 0 for an image where that is unknown. None where no image has one.

    Raises:
        InputError: There are more or fewer boxes or names than images, or `inside` has other sizes.

    Example:
        >>> boxes = (torch.tensor([[0.0, 0.0, 4.0, 4.0]]),)
        >>> Sample(torch.rand(1, 3, 8, 8), torch.tensor([2]), boxes=boxes).labels.tolist()
        [2]
    """

    images: Images
    labels: Labels
    boxes: tuple[Tensor, ...] | None = None
    names: tuple[str, ...] | None = None
    inside: Mask | None = None

    def __post_init__(self) -> None:
        """Check that there is one entry of boxes, one name, and one region per image."""
        expected = (len(self.images), 1, *self.images.shape[2:])
        if self.inside is not None and self.inside.shape != expected:
            raise InputError(
                f"Sample.inside has shape {tuple(self.inside.shape)}; for these images {expected}."
            )
        for what, values in (("box tensors", self.boxes), ("names", self.names)):
            if values is not None and len(values) != len(self.images):
                raise InputError(
                    f"a Sample of {len(self.images)} images takes as many {what}; got "
                    f"{len(values)}."
                )


class Metric(ABC):
    """A score of masks, one value per image. Stateless: `evaluate` takes the mean over a data set.

    Example:
        >>> class MaskArea(Metric):
        ...     higher_is_better = False
        ...     def score(self, black_box, sample, mask, *, explain, generator):
        ...         return mask.mean((1, 2, 3))
    """

    higher_is_better: ClassVar[bool]

    def __post_init__(self) -> None:
        """Check the fields of a dataclass."""
        check_fields(self)

    def for_data(self, sample: Sample) -> "Metric":
        """The metric made ready with a few images of the data set, the same ones for every masker;
        by default itself.

        For metrics that need other images than the scored one, such as mosaics: a score must not
        depend on the batch.

        Args:
            sample: The first images of the data set.
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
        """Score masks. Checks that retrain a model are commands, not metrics.

        Args:
            black_box: The classifier.
            sample: The explained images.
            mask: (B, 1, H, W) in [0, 1], for the labels of the sample.
            explain: From images and labels to masks: the same masker, for metrics that compare.
            generator: Draw from it with `core.rng`.

        Returns:
            One value per image, or several by name; NaN where the metric does not apply (no
            bounding boxes, for example).
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
        """The scores by name, checked; a single one is named after the class. Arguments as in
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
