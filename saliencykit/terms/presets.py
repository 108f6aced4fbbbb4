"""Named objectives: the paper's, that of the authors' code, Fong & Vedaldi's, and ours."""

from collections.abc import Callable, Mapping

from saliencykit.core.objective import Objective
from saliencykit.terms.area import Area, PowerArea
from saliencykit.terms.destroy import DestroyedMargin, DestroyedProbability
from saliencykit.terms.preserve import PreservedLogProbability, PreservedMargin
from saliencykit.terms.smoothness import Smoothness


def paper() -> Objective:
    """Equation 1 with the paper's numbers read literally: TV sum x 10, mean area x 0.001, -log f_c,
    5 f_c^0.3.

    These numbers do not lead to small masks: with a mean area shrinking gains almost nothing, and
    with a summed total variation every edge costs too much. It is here for comparison; use
    `paper_mean`.

    References:
        Dabkowski & Gal 2017, equation 1 and section 4 (lambda = 10, 1e-3, 5, 0.3).
    """
    return Objective(
        (
            Smoothness(weight=10.0, reduction="sum"),
            Area(weight=1e-3),
            PreservedLogProbability(),
            DestroyedProbability(weight=5.0, power=0.3),
        )
    )


def paper_mean() -> Objective:
    """Equation 1 with every term a mean over pixels: TV x 10, area x 6, -log f_c, 5 f_c^0.3."""
    return Objective(
        (
            Smoothness(weight=10.0),
            Area(weight=6.0),
            PreservedLogProbability(),
            DestroyedProbability(weight=5.0, power=0.3),
        )
    )


def authors() -> Objective:
    """What the authors' published code minimizes: margins of 1 and 5 nats, area to the power 0.3, a
    border term.

    `destroy + 8 mean((M + 0.0005)^0.3) + 0.005/2 (TV + 0.3 border) + 0.3 preserve`; fakes are
    inverted.
    """
    return Objective(
        (
            Smoothness(weight=0.0025, reduction="sum", border=0.3),
            PowerArea(weight=8.0),
            PreservedMargin(weight=0.3),
            DestroyedMargin(),
        ),
        fakes="inverted",
    )


def meaningful_perturbation() -> Objective:
    """Destroy only: `f_c` without the mask, 0.001 times the number of removed cells, 0.01 times
    their total variation.

    Their `m` is what remains of the image, `1 - M` here, on 28 x 28 cells: a mean area weighs
    0.001 * 28^2. For a smoothly enlarged mask, squared differences summed over the image are those
    summed over the cells.

    References:
        Fong & Vedaldi 2017, equation 4; the weights are those of their published localization
        experiment.
    """
    return Objective(
        (
            Smoothness(weight=0.01, reduction="sum"),
            Area(weight=0.784),
            DestroyedProbability(power=1.0),
        )
    )


def sufficient() -> Objective:
    """The smallest sufficient region alone: `paper_mean` without destroying. It keeps one of two
    objects where one is enough.

    References:
        Dabkowski & Gal 2017, section 2 (SSR).
    """
    return Objective((Smoothness(weight=10.0), Area(weight=6.0), PreservedLogProbability()))


def keep_and_drop() -> Objective:
    """Ours for masks of a given area: `-log f_c` with the mask plus `f_c` without it. Area costs
    nothing here.
    """
    return Objective((PreservedLogProbability(), DestroyedProbability(power=1.0)))


def masking_network() -> Objective:
    """Ours for training: equation 1 as means, as `paper_mean`, with a border term and a heavier
    area: TV x 10, area x 10.

    Log-probabilities are clamped at -12 without the mask and at -6 with it, so that images which
    the classifier gets wrong do not dominate the others.
    """
    return Objective(
        (
            Smoothness(weight=10.0, border=0.1),
            Area(weight=10.0),
            PreservedLogProbability(floor=-6.0),
            DestroyedProbability(weight=5.0, power=0.3, floor=-12.0),
        )
    )


PRESETS: Mapping[str, Callable[[], Objective]] = {
    "paper": paper,
    "paper-mean": paper_mean,
    "authors": authors,
    "meaningful-perturbation": meaningful_perturbation,
    "sufficient": sufficient,
    "keep-and-drop": keep_and_drop,
    "masking-network": masking_network,
}
