"""RemoveAndDebias: ROAD, pixels removed in both orders and imputed from their neighbours."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import class_scores, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.types import Images, Mask, PerImage
from saliencykit.metrics.linear_imputation import Imputer
from saliencykit.metrics.perturbed_queries import check_shares, query_batched
from saliencykit.metrics.ranking import ranks

# pixels that are imputed together: about two photos, which stay in a processor's cache
_AT_ONCE = 2**17


@final
@dataclass(frozen=True, kw_only=True)
class RemoveAndDebias(Metric):
    """ROAD: the best pixels go first, or the worst, and what is gone is imputed from what is left:
    what does the class lose?

    Removed pixels become the weighted mean of their neighbours (noisy linear imputation), so that
    no edge around a hole tells of its shape, and nothing but the picture itself is shown. `morf` is
    the label's mean probability over the shares with the most relevant pixels removed first (lower
    is better), `lerf` with the least relevant first (higher is better), and `gap = lerf - morf` in
    [-1, 1] the verdict: a method that is good in one order by chance is not in both.
    `morf_accuracy` and `lerf_accuracy` are what the authors report, the share of edits whose top
    class is the label. Only the order of the map counts, ties are broken by distance from the
    middle (`saliencykit.metrics.ranking`). The imputation is weak for large holes, which masks
    make: they become smooth gradients. Two queries and two imputations per share and image.

    Args:
        fractions: Of the picture's pixels that are removed, in (0, 1), each larger than the one
            before.
        noise: Standard deviation of the Gaussian noise on the removed pixels, in units of pixels in
            [0, 1], >= 0; drawn once per picture, the same for all shares and maps.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth = black_box.evidence(sample.images, sample.labels)
        >>> scores = RemoveAndDebias()(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(scores[name].item(), 2) for name in ("gap", "morf", "lerf")}
        {'gap': 0.75, 'morf': 0.25, 'lerf': 1.0}

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5: weights 1/6 and 1/12, noise 0.01. The gap of the two orders is twice that
        of the `pytorch-grad-cam` package.
    """

    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    noise: float = 0.01

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_shares(self, "fractions", self.fractions)
        if not 0 <= self.noise < float("inf"):
            raise InputError(
                f"RemoveAndDebias(noise={self.noise}): the noise is >= 0; the authors' is 0.01."
            )

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """The five values above."""
        images = sample.images
        grain = rng.normal(images, images.shape[1:], generator=generator, std=self.noise)
        places = ranks(mask)
        pixels = places.shape[2] * places.shape[3]
        removed = [round(share * pixels) for share in self.fractions]
        kept = chain.from_iterable((places >= count, places < pixels - count) for count in removed)
        logits = query_batched(black_box.optimized_for(images), _imputed(images, kept, grain))
        labels = sample.labels.repeat(len(logits))
        answers = (
            class_scores.probability(logits.flatten(0, 1), labels).view(len(removed), 2, -1).mean(0)
        )
        right = (
            (logits.flatten(0, 1).argmax(1) == labels)
            .to(logits.dtype)
            .view(len(removed), 2, -1)
            .mean(0)
        )
        return {
            "gap": answers[1] - answers[0],
            "morf": answers[0],
            "lerf": answers[1],
            "morf_accuracy": right[0],
            "lerf_accuracy": right[1],
        }


def _imputed(images: Images, kept: Iterable[Tensor], grain: Tensor) -> Iterator[Images]:
    """The edits with each of the masks; of small pictures several edits are imputed together, of
    large ones a part of the batch.
    """
    pixels = _AT_ONCE if images.device.type == "cpu" else 32 * _AT_ONCE
    rows = max(1, pixels // (images.shape[2] * images.shape[3]))
    masks = iter(kept)
    imputers: dict[tuple[int, ...], Imputer] = {}
    while some := list(islice(masks, max(1, rows // len(images)))):
        fills = []
        parts = (
            torch.split(images.repeat(len(some), 1, 1, 1), rows),
            torch.split(torch.cat(some), rows),
        )
        for many, inside in zip(*parts, strict=True):
            if many.shape not in imputers:
                imputers[many.shape] = Imputer(many)
            fills.append(imputers[many.shape](many, inside))
        for fill, inside in zip(torch.cat(fills).view(len(some), *images.shape), some, strict=True):
            yield torch.where(inside, images, fill + grain)
