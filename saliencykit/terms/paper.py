"""The objectives that have a name: the paper's, the authors' code's, Fong & Vedaldi's, and ours."""

from collections.abc import Callable, Mapping

from saliencykit.core.objective import Objective
from saliencykit.terms.area import Area, PowerArea
from saliencykit.terms.destroy import DestroyedMargin, DestroyedProbability
from saliencykit.terms.preserve import PreservedLogProbability, PreservedMargin
from saliencykit.terms.smoothness import Smoothness


def paper() -> Objective:
    """Equation 1 with the paper's numbers read literally: TV sum x 10, mean area x 0.001, -log f_c, 5 f_c^0.3.

    These numbers do not find small masks: with a mean area nothing pays for shrinking, and with a summed total variation nothing
    may have an edge. It is here to be compared with; use `paper_mean`.

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
        (Smoothness(weight=10.0), Area(weight=6.0), PreservedLogProbability(), DestroyedProbability(weight=5.0, power=0.3))
    )


def authors() -> Objective:
    """What the authors' published code minimises: margins of 1 and 5 nats, area to the power 0.3, a border term.

    `destroy + 8 mean((M + 0.0005)^0.3) + 0.005/2 (TV + 0.3 border) + 0.3 preserve`; fakes are inverted.
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
    """Destroy only: the smallest region whose removal loses the class, `f_c + 0.01-ish area and TV` of Fong & Vedaldi.

    Their `m` is what is kept of the picture when it is perturbed, `1 - M` here.

    References:
        Fong & Vedaldi 2017, equation 4, with the weights per mean area and mean TV.
    """
    return Objective((Smoothness(weight=1.0), Area(weight=0.5), DestroyedProbability(power=1.0)))


PRESETS: Mapping[str, Callable[[], Objective]] = {
    "paper": paper,
    "paper-mean": paper_mean,
    "authors": authors,
    "meaningful-perturbation": meaningful_perturbation,
}
