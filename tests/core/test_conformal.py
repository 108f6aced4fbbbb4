"""Split conformal bounds: the frequency holds for any distribution."""

import numpy as np
import pytest

from saliencykit.core.conformal import conformal_bound, fewest_images
from saliencykit.core.errors import InputError


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_a_further_score_stays_within_the_bound_as_often_as_promised(
    level: float, draw: str
) -> None:
    generator = np.random.default_rng(0)
    trials, count = 3000, 29
    scores = getattr(generator, draw)(size=(trials, count + 1))
    within = np.mean([row[-1] <= conformal_bound(row[:-1].tolist(), level) for row in scores])
    exact = np.ceil((count + 1) * level) / (count + 1)  # of continuous scores
    assert within == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / trials))


def test_too_few_images_for_a_level_are_refused() -> None:
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        count = fewest_images(level)
        assert conformal_bound([1.0] * count, level) == 1
        with pytest.raises(InputError, match=f"takes at least {count} images"):
            conformal_bound([1.0] * (count - 1), level)
