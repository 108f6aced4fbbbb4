"""Fong & Vedaldi's meaningful perturbation, as a preset of `Iterative`."""

from saliencykit.alternatives.blur import Blur
from saliencykit.maskers.optimization.iterative import Iterative
from saliencykit.terms.presets import meaningful_perturbation as destroy_only


def meaningful_perturbation(
    *, steps: int = 300, grid_size: int = 28, lr: float = 0.1, jitter: float = 4 / 224
) -> Iterative:
    """Fong & Vedaldi's meaningful perturbation: the smallest region whose blurring loses the class.

    It only removes evidence, against one fill, with a fine grid: sharp, and easily adversarial, so
    check the result under another fill. The defaults are the published settings: 300 steps of Adam
    with a learning rate of 0.1, a mask 8 times smaller than the image, jitter of 4 px of 224.

    Args:
        steps: See `Iterative`.
        grid_size: See `Iterative`.
        lr: See `Iterative`.
        jitter: See `Iterative`.

    Example:
        >>> meaningful_perturbation(steps=50).steps
        50

    References:
        Fong & Vedaldi 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation",
        section 4, equation 4.
    """
    return Iterative(
        objective=destroy_only(),
        steps=steps,
        grid_size=grid_size,
        lr=lr,
        alternative=Blur(),
        jitter=jitter,
        tolerance=0.0,
    )
