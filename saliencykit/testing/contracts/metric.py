"""check_metric: everything that the library relies on of a metric."""

from collections.abc import Mapping

import torch
from torch import Tensor

from saliencykit.core.metric import Metric, Sample
from saliencykit.core.types import Mask
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
from saliencykit.testing.contracts.case import CLOSE, SIZES, Case, Clause, is_part, seeded

KIND = Clause(
    "it is derived from saliencykit.Metric",
    "write class Mine(saliencykit.Metric) and implement score",
)
OWN_CALL = Clause(
    "__call__ is the library's: it checks what goes in and out", "implement score only"
)
DIRECTION = Clause(
    "higher_is_better is True or False", "write higher_is_better = True (or False) in the class"
)
FOR_DATA = Clause(
    "for_data gives a Metric", "return self, unless you need other pictures of the data set"
)
SCORES = Clause(
    "a score is one float per image, or several by name; NaN where it does not apply",
    "mean over dimensions 1, 2 and 3, not over 0; NaN for a picture without boxes; empty and full "
    "masks must not raise",
)
NAMES = Clause(
    "the scores have the same names every time",
    "give NaN under a name that does not apply, do not leave it out",
)
REPEATS = Clause(
    "the same question and seed get the same score",
    "keep nothing in self; draw with saliencykit.core.rng",
)
ROWS = Clause(
    "a score depends on that image and mask alone, not on the batch around it",
    "no statistics over dimension 0; draw with saliencykit.core.rng; other pictures come through "
    "for_data",
)
GIVES_BACK = Clause(
    "what is borrowed is given back as it was: images, labels, mask and the global random state",
    "no operation in place; draw with saliencykit.core.rng, never from torch's or numpy's global "
    "state",
)


def check_metric(metric: Metric) -> None:
    """Check a metric: one float per image or several by name, NaN allowed, independent of the
    batch, nothing borrowed changed.

    Args:
        metric: What is checked, with good, full, empty and random masks of small pictures, with and
            without boxes. The box can only be asked.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.metrics.saliency_score import SaliencyScore
        >>> check_metric(SaliencyScore())
    """
    who = f"check_metric({metric!r})"
    is_part(metric, Metric, KIND, OWN_CALL, who)
    up = getattr(metric, "higher_is_better", None)
    Case(who).require(isinstance(up, bool), DIRECTION, expected="True or False", got=repr(up))
    black_box, names = PlantedEvidence(), set[str]()
    for size in SIZES:
        images, labels = black_box.examples(4, generator=seeded(1), size=size)
        with Case(who, {"images": images}).asking(FOR_DATA, "a Metric"):
            ready = metric.for_data(Sample(images, labels))
        Case(who).require(
            isinstance(ready, Metric), FOR_DATA, expected="a Metric", got=type(ready).__name__
        )
        truth = black_box.evidence(images, labels)
        rectangles = tuple(torch.tensor([[1.0, 2.0, 7.0, 8.0]] * n) for n in (1, 2, 0, 1))
        masks = (
            truth,
            torch.ones_like(truth),
            torch.zeros_like(truth),
            torch.rand(truth.shape, generator=seeded(3)),
        )
        for boxes in (None, rectangles):
            for mask in masks:
                names = _check_scores(metric, Sample(images, labels, boxes), mask, names, who)


def _check_scores(
    metric: Metric, sample: Sample, mask: Mask, names: set[str], who: str
) -> set[str]:
    """The scores of one sample; returns their names."""
    images, labels, boxes, black_box = sample.images, sample.labels, sample.boxes, PlantedEvidence()
    about = "None" if boxes is None else f"{[len(rows) for rows in boxes]} per image"
    given = {
        "images": images,
        "labels": labels,
        "mask": mask,
        "boxes": about,
        "generator": "Generator().manual_seed(0)",
    }
    case, asked = Case(who, given), dict[tuple[int, ...], Mapping[str, Tensor]]()

    def ask(some: Tensor) -> Mapping[str, Tensor]:
        key = tuple(some.tolist())
        if key not in asked:
            rows = Sample(
                images[some], labels[some], None if boxes is None else tuple(boxes[i] for i in key)
            )
            asked[key] = metric(
                QueryOnly(black_box),
                rows,
                mask[some],
                explain=black_box.evidence,
                generator=seeded(0),
            )
            came = set(asked[key])
            case.require(
                came == (names or came), NAMES, expected=str(sorted(names)), got=str(sorted(came))
            )
        return asked[key]

    with (
        case.borrowing(GIVES_BACK, images=images, labels=labels, mask=mask),
        case.asking(SCORES, "scores"),
    ):
        whole = metric(
            QueryOnly(black_box), sample, mask, explain=black_box.evidence, generator=seeded(0)
        )
    names = names or set(whole)
    case.require(set(whole) == names, NAMES, expected=str(sorted(names)), got=str(sorted(whole)))
    for name, value in whole.items():
        close = CLOSE * float(value.nan_to_num(0, 1, 1).abs().max().clamp_min(1))
        part = Case(who, {"score": name, **case.given})
        part.same(
            REPEATS, value, ask(torch.arange(len(images)))[name], close, how="asked a second time"
        )
        part.rows(ROWS, lambda some, name=name: ask(some)[name], value, 10 * close)  # type: ignore[misc]
    return names
