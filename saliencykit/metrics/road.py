"""RemoveAndDebias: ROAD, pixels removed in both orders and imputed from their neighbors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated, ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.metric import Explain, Metric, Sample
from saliencykit.core.output import margin, probability
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Mask, PerImage
from saliencykit.metrics.linear_imputation import Imputer
from saliencykit.metrics.perturbed_queries import check_fractions, query_batched
from saliencykit.metrics.ranking import ranks

# pixels that are imputed together: about two photos, which fit into a processor's cache
_MAX_PIXELS = 2**17


@final
@dataclass(frozen=True, kw_only=True)
class RemoveAndDebias(Metric):
    """ROAD: remove the most, or the least, relevant pixels first, impute them from the rest, and
    see how much probability is lost.

    Removed pixels become the weighted mean of their neighbors (noisy linear imputation), so that no
    edge reveals the shape of the hole. `morf` is the label's mean probability over the fractions
    with the most relevant pixels removed first (lower is better), `lerf` with the least relevant
    first (higher is better), and `gap = lerf - morf`, in [-1, 1], combines them: a method that is
    good in one order by chance is not in both. `morf_accuracy` and `lerf_accuracy` are what the
    authors report, the fraction of perturbed images whose top class is the label. Only the order of
    the map counts; ties are broken by the distance from the center (`saliencykit.metrics.ranks`).
    The imputation is weak for large holes: they become smooth gradients. Two queries and two
    imputations per fraction and image.

    Args:
        fractions: Fractions of the pixels that are removed, in (0, 1), in ascending order.
        noise: Standard deviation of the Gaussian noise on the removed pixels, for pixels in
            [0, 1], >= 0; drawn once per image, the same for all fractions and maps.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> sample = Sample(*black_box.examples(1, generator=g))
        >>> truth, metric = black_box.evidence(sample.images, sample.labels), RemoveAndDebias()
        >>> scores = metric(black_box, sample, truth, explain=black_box.evidence, generator=g)
        >>> {name: round(scores[name].item(), 2) for name in ("gap", "morf", "lerf")}
        {'gap': 0.75, 'morf': 0.25, 'lerf': 1.0}

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5: weights 1/6 and 1/12, noise 0.01. The gap of the two orders is twice that
        of the `pytorch-grad-cam` package.
    """

    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    noise: Annotated[float, "[0, inf)"] = 0.01

    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_fractions(self, "fractions", self.fractions)

    def score(
        self,
        black_box: BlackBox,
        sample: Sample,
        mask: Mask,
        *,
        explain: Explain,
        generator: Generator,
    ) -> Mapping[str, PerImage]:
        """`gap`, `morf`, `lerf`, `morf_accuracy` and `lerf_accuracy`."""
        images = sample.images
        noise = rng.normal(images, images.shape[1:], generator=generator, std=self.noise)
        places = ranks(mask)
        pixels = places[0].numel()
        removed = [round(fraction * pixels) for fraction in self.fractions]
        kept = chain.from_iterable((places >= count, places < pixels - count) for count in removed)
        logits = query_batched(black_box.optimized_for(images), _imputed(images, kept, noise))
        logits, labels = logits.flatten(0, 1), sample.labels.repeat(len(logits))
        output = relative_output(black_box, images, None, generator)
        morf, lerf = _mean_by_order(probability(logits, labels, output), len(images))
        right = (margin(logits, labels, output) <= 0).to(logits.dtype)
        morf_accuracy, lerf_accuracy = _mean_by_order(right, len(images))
        return {
            "gap": lerf - morf,
            "morf": morf,
            "lerf": lerf,
            "morf_accuracy": morf_accuracy,
            "lerf_accuracy": lerf_accuracy,
        }


def _mean_by_order(values: Tensor, count: int) -> Tensor:
    """Means over the fractions, (2, B): most relevant first, least relevant first."""
    return values.view(-1, 2, count).mean(0)


def _imputed(images: Images, kept: Iterable[Tensor], noise: Tensor) -> Iterator[Images]:
    """The images imputed outside each of the masks. Several masks of small images are imputed
    together, of large images a part of the batch.
    """
    pixels = _MAX_PIXELS if images.device.type == "cpu" else 32 * _MAX_PIXELS
    rows = max(1, pixels // (images.shape[2] * images.shape[3]))
    masks = iter(kept)
    imputers: dict[tuple[int, ...], Imputer] = {}
    while some := list(islice(masks, max(1, rows // len(images)))):
        repeated, inside = images.repeat(len(some), 1, 1, 1), torch.cat(some)
        parts = torch.split(repeated, rows), torch.split(inside, rows)
        fills = []
        for part, known in zip(*parts, strict=True):
            if part.shape not in imputers:
                imputers[part.shape] = Imputer(part)
            fills.append(imputers[part.shape](part, known))
        for fill, mask in zip(torch.cat(fills).view(len(some), *images.shape), some, strict=True):
            yield torch.where(mask, images, fill + noise)
