"""RISE: random masks, and which pixels the good ones have in common."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import whole_numbers
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.normalize import mask_from_attributions, probabilities
from saliencykit.maskers.perturbation.random_masks import Sampling, draw_masks
from saliencykit.maskers.perturbation.score_estimators import (
    MeanEstimator,
    RegressionEstimator,
    ScoreEstimator,
)

_ZERO = Constant(color="zero")
_ROUNDING = 1e-5  # of the mean probability: a map below it says nothing, the answers are float32
_LOOK = 128  # masks between two looks at the precision
_FIRST_LOOK = 256  # before it two halves say little


@final
@dataclass(frozen=True, kw_only=True)
class Rise(Masker):
    """Random masks M_s, the label's probability y_s under each, and per pixel the covariance of the
    two.

    `scores = Cov(y, M) / keep`: the published map less `mean y * mean M / keep`, its value where a
    pixel makes no difference. Under sharp masks a score is the mean answer where the pixel is kept,
    less the mean answer. Needs only queries and finds several objects; the map is as coarse as the
    cells, and noisy: `error` says how much.

    The published sum needs thousands of masks. Here they come in opposite pairs, and the covariance
    is that of the regression of y on M, with the masks' own covariance known exactly: the same map
    with 4 to 8 times fewer masks (`docs/results/speed.md`). `sampling="random",
    estimate="mean"` is the plain way.

    The mask is the positive part of the scores divided by its maximum. Memory does not depend on
    the number of samples: masks are made by two small matrix products per micro-batch, and added up
    without being kept.

    Args:
        samples: Masks per picture, each one evaluation, >= 2; with `target_correlation` the most. The paper
            takes 4000 to 8000.
        grid_size: Random cells per side, >= 1; the paper's 7. Beyond 18 `linear` leaves out the finest
            patterns of the masks.
        keep_prob: The chance that a cell is kept, in (0, 1).
        alternative: What stands where cells are dropped. By default what the model's normalisation
            maps to 0, as published; one that draws (noise, a choice) is drawn once per picture.
        target_correlation: In (0, 1): stop when the map's expected correlation with that of endless samples,
            estimated from two halves, is so high; 0.95 takes 250 to 500 masks for most photos.
            Warns where `samples` did not suffice. None: draw them all.
        sampling: `antithetic`: in pairs of a mask and one less it; `random`: each on its own, as
            published.
        estimate: `linear`: by regression, see LinearFit; `mean`: the published sum, centred, see
            SampleMean.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Rise(samples=32)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Petsiuk et al. 2018, "RISE", section 3, equations 6 and 7, and 3.2 for the masks.
    """

    samples: int = 1000
    grid_size: int = 7
    keep_prob: float = 0.5
    alternative: Alternative = _ZERO
    target_correlation: float | None = None
    sampling: Sampling = "antithetic"
    estimate: Literal["linear", "mean"] = "linear"

    def __post_init__(self) -> None:
        """Check the numbers."""
        whole_numbers(self, "samples", least=2)
        whole_numbers(self, "grid_size")
        if not 0 < self.keep_prob < 1:
            raise InputError(
                f"Rise(keep_prob={self.keep_prob}): the chance that a cell is kept is in (0, 1)."
            )
        if not isinstance(self.alternative, Alternative):
            raise InputError(
                f"Rise(alternative={self.alternative!r}) takes an Alternative, such as "
                "Constant(color='zero')."
            )
        if self.target_correlation is not None and not 0 < self.target_correlation < 1:
            raise InputError(
                f"Rise(target_correlation={self.target_correlation}): a wanted correlation is in (0, 1), such as "
                "0.95; None: no early stop."
            )
        for name, known in (
            ("sampling", ("antithetic", "random")),
            ("estimate", ("linear", "mean")),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"Rise({name}={getattr(self, name)!r}) takes {known[0]!r} or {known[1]!r}."
                )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Scores with their standard error per position, and their positive part as the mask."""
        seed = rng.seed(generator)
        black_box, alternative = (
            black_box.optimized_for(images),
            self.alternative.for_black_box(black_box),
        )
        maps = [
            self._map(black_box, image, label, alternative, seed)
            for image, label in zip(images[:, None], labels[:, None], strict=True)
        ]
        exact = torch.promote_types(images.dtype, torch.float32)
        scores = torch.stack([each.scores() for each in maps])[:, None].to(images.device, exact)
        error = torch.stack([each.error() for each in maps])[:, None].to(images.device, exact)
        floor = scores.new_tensor([each.mean_answer() for each in maps]) * _ROUNDING
        return MaskerOutput(mask_from_attributions(scores, floor), scores, error)

    def _map(
        self, black_box: BlackBox, image: Images, label: Tensor, alternative: Alternative, seed: int
    ) -> ScoreEstimator:
        generator = Generator().manual_seed(seed)
        size = (image.shape[2], image.shape[3])
        edit, step = _editor(image, alternative, generator, seed), micro_batch(black_box)
        like = image.new_zeros((), dtype=torch.promote_types(image.dtype, torch.float32))
        found = (
            RegressionEstimator(size, self.grid_size, self.keep_prob, like)
            if self.estimate == "linear"
            else MeanEstimator(size, self.keep_prob, like)
        )
        for block in draw_masks(
            image, self.samples, self.grid_size, self.keep_prob, self.sampling, generator=generator
        ):
            for first in range(0, len(block), _LOOK):
                some = block[first : first + _LOOK]
                parts = [some[at : at + step] for at in range(0, len(some), step)]
                answers = torch.cat(
                    [
                        probabilities(black_box, edit(part.masks().to(image.dtype)), label)
                        for part in parts
                    ]
                )
                found.add(some, answers.to(like))
                if (
                    self.target_correlation is not None
                    and found.seen >= _FIRST_LOOK
                    and self._enough(found)
                ):
                    return found
        return found

    def _enough(self, found: ScoreEstimator) -> bool:
        reached = found.agreement()
        if (
            self.target_correlation is None
            or math.isnan(reached)
            or reached >= self.target_correlation
        ):  # nan: no answer depends on the mask
            return True
        if found.seen >= self.samples:
            warnings.warn(
                f"rise: after {found.seen} masks the map's expected correlation with that of "
                f"endless masks is {reached:.2f}; wanted was {self.target_correlation}. Give it more: "
                f"samples={2 * self.samples}.",
                stacklevel=2,
            )
        return False


def _editor(
    image: Images, alternative: Alternative, generator: Generator, seed: int
) -> Callable[[Mask], Images]:
    """A function from masks (n, 1, H, W) to the picture's edits with them, (n, C, H, W)."""
    fill = shared_fill(alternative, image, generator)
    if fill is None:
        return lambda masks: alternative.edit(
            image.expand(len(masks), -1, -1, -1), masks.clamp(0, 1), Generator().manual_seed(seed)
        )
    difference = image - fill
    # `compose` as fill + mask * (image - fill): one pass over memory instead of four
    return lambda masks: torch.addcmul(fill, difference, masks)
