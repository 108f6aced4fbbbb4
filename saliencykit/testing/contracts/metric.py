"""check_metric: everything that the library relies on of a metric."""

from collections.abc import Mapping

import torch
from torch import Tensor

from saliencykit.core.metric import Metric, Sample
from saliencykit.core.types import Mask
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
from saliencykit.testing.contracts.case import (
    CLOSE,
    SIZES,
    Case,
    Clause,
    borrows,
    derived_from,
    is_part,
    seeded,
)

KIND = derived_from("Metric", "score")
OWN_CALL = Clause("__call__ is the library's: it checks inputs and outputs", "implement score only")
DIRECTION = Clause(
    "higher_is_better is True or False", "write higher_is_better = True (or False) in the class"
)
FOR_DATA = Clause(
    "for_data returns a Metric", "return self, unless you need other images of the data set"
)
SCORES = Clause(
    "a score is one float per image, or several by name; NaN where it does not apply",
    "mean over dimensions 1, 2 and 3, not over 0; NaN for an image without bounding boxes; accept "
    "empty and full masks",
)
NAMES = Clause(
    "the scores have the same names every time",
    "give NaN under a name that does not apply instead of leaving it out",
)
REPEATS = Clause(
    "the same input and seed get the same score",
    "keep nothing in self; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a score depends on that image and mask alone, not on the batch around it",
    "compute no statistics over dimension 0; draw with saliencykit.core.rng; other images come "
    "through for_data",
)
GIVES_BACK = borrows(
    "images, labels, mask",
    "no operation in place; draw with saliencykit.core.rng, never from the global state of torch "
    "or numpy",
)


def check_metric(metric: Metric) -> None:
    """Check a metric: one float per image or several by name, NaN allowed, independent of the
    batch, nothing borrowed changed.

    Args:
        metric: The metric to check, with good, full, empty and random masks of small images, with
            and without bounding boxes, on a query-only black box.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.metrics import SaliencyScore
        >>> check_metric(SaliencyScore())
    """
    who = f"check_metric({metric!r})"
    is_part(metric, Metric, KIND, OWN_CALL, who)
    up = getattr(metric, "higher_is_better", None)
    Case(who).require(isinstance(up, bool), DIRECTION, "True or False", repr(up))
    black_box, names = PlantedEvidence(), set[str]()
    for size in SIZES:
        images, labels = black_box.examples(4, generator=seeded(1), size=size)
        with Case(who, {"images": images}).expecting(FOR_DATA, "a Metric"):
            Case(who).require_a(Metric, metric.for_data(Sample(images, labels)), FOR_DATA)
        truth = black_box.evidence(images, labels)
        noise = torch.rand(truth.shape, generator=seeded(3), dtype=torch.float32, device="cpu")
        rectangles = tuple(noise.new_tensor([[1.0, 2.0, 7.0, 8.0]] * n) for n in (1, 2, 0, 1))
        full, empty = torch.ones_like(truth), torch.zeros_like(truth)
        for boxes, masks in ((None, (truth, full)), (rectangles, (truth, full, empty, noise))):
            for mask in masks:
                names = _check_scores(metric, Sample(images, labels, boxes), mask, names, who)


def _check_scores(
    metric: Metric, sample: Sample, mask: Mask, names: set[str], who: str
) -> set[str]:
    """Check the scores of one sample; returns their names."""
    images, labels, boxes, black_box = sample.images, sample.labels, sample.boxes, PlantedEvidence()
    about = "None" if boxes is None else f"{[len(rows) for rows in boxes]} per image"
    given = {"images": images, "labels": labels, "mask": mask, "boxes": about}
    case = Case(who, given | {"generator": "Generator().manual_seed(0)"})
    cache = dict[tuple[int, ...], Mapping[str, Tensor]]()

    def score(rows: Sample, mask: Mask) -> Mapping[str, Tensor]:
        found = metric(
            QueryOnly(black_box), rows, mask, explain=black_box.evidence, generator=seeded(0)
        )
        expected = names or set(found)
        case.require(set(found) == expected, NAMES, str(sorted(expected)), str(sorted(found)))
        return found

    def score_of(some: Tensor) -> Mapping[str, Tensor]:
        key = tuple(some.tolist())
        if key not in cache:
            part = None if boxes is None else tuple(boxes[i] for i in key)
            cache[key] = score(Sample(images[some], labels[some], part), mask[some])
        return cache[key]

    with (
        case.lending(GIVES_BACK, images=images, labels=labels, mask=mask),
        case.expecting(SCORES, "scores"),
    ):
        whole = score(sample, mask)
    names = names or set(whole)
    for name, value in whole.items():
        close = CLOSE * float(value.nan_to_num(0, 1, 1).abs().max().clamp_min(1))
        part = Case(who, {"score": name, **case.given})
        again = score_of(torch.arange(len(images), device="cpu"))[name]
        part.same(REPEATS, value, again, close, how="a second time")
        part.rows(ROWS, lambda some, name=name: score_of(some)[name], value, 10 * close)  # type: ignore[misc]
    return names
