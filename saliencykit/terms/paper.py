"""The objectives that have a name: the paper's, the authors' code's, Fong & Vedaldi's, and ours."""

from collections.abc import Callable, Mapping

from saliencykit.core.objective import Objective
from saliencykit.terms.area import Area, PowerArea
from saliencykit.terms.destroy import DestroyedMargin, DestroyedProbability
from saliencykit.terms.preserve import PreservedLogProbability, PreservedMargin
from saliencykit.terms.smoothness import Smoothness


def paper() -> Objective:
    """Equation 1 with the paper's numbers read literally: TV sum x 10, mean area x 0.001, -log f_c,
    5 f_c^0.3.

    These numbers do not find small masks: with a mean area nothing pays for shrinking, and with a
    summed total variation nothing may have an edge. It is here to be compared with; use
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
    """What the authors' published code minimises: margins of 1 and 5 nats, area to the power 0.3, a
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
    """Destroy only: `f_c` of what is left, 0.001 times the number of removed cells, 0.01 times
    their total variation.

    Their `m` is what is left of the picture, `1 - M` here, on 28 x 28 cells: a mean area weighs
    0.001 * 28^2. Squared differences summed over the picture are those summed over the cells, for a
    mask that is enlarged smoothly.

    References:
        Fong & Vedaldi 2017, equation 4; the weights are those of their published localisation
        experiment.
    """
    return Objective(
        (
            Smoothness(weight=0.01, reduction="sum"),
            Area(weight=0.784),
            DestroyedProbability(power=1.0),
        )
    )


def keep_and_drop() -> Objective:
    """Ours for masks whose area is given: `-log f_c` of what is kept plus `f_c` of what is left.
    Area costs nothing here.
    """
    return Objective((PreservedLogProbability(), DestroyedProbability(power=1.0)))


def masking_network() -> Objective:
    """Ours for training: equation 1 as means, as `paper_mean`, with a border term and a heavier
    area: TV x 10, area x 10.

    Log-probabilities are not counted below -12 on pictures that are dropped and -6 on those that
    are kept, so that pictures which the classifier is wrong about do not drown the others.
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
    "keep-and-drop": keep_and_drop,
    "masking-network": masking_network,
}
