import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saliencykit.core import checks
from saliencykit.testing.strategies import images, labels, masks, sizes, trials


@given(images(), images(batch=2, channels=1, size=(5, 7)))
def test_images(x, fixed):
    checks.images(x, "the strategy")
    assert x.dtype == torch.float64
    assert x.shape[1] == 3
    assert 1 <= len(x) <= 4
    assert all(4 <= side <= 16 for side in x.shape[2:])
    assert x.min() >= 0
    assert x.max() <= 1
    assert fixed.shape == (2, 1, 5, 7)


@given(st.data())
def test_masks_and_labels(data):
    x = data.draw(images())
    mask = data.draw(masks(batch=len(x), size=tuple(x.shape[2:])))
    checks.mask(mask, x, "the strategy")
    assert mask.dtype == torch.float64
    checks.labels(data.draw(labels(len(x), 3)), len(x), 3, "the strategy")


@given(trials())
def test_trials_have_consistent_parts(trial):
    count = len(trial.images)
    checks.mask(trial.mask, trial.images, "the strategy")
    checks.labels(trial.labels, count, 4, "the strategy")
    assert trial.real.shape == (count,)
    assert trial.real.dtype == torch.bool
    for logits in (trial.preserved, trial.destroyed):
        assert logits.shape == (count, 4)
        assert logits.abs().max() <= 50


def test_strategies_reach_the_extremes():
    seen = set()

    @settings(max_examples=150)
    @given(masks(), sizes())
    def look(mask, size):
        flat = bool(mask.min() == mask.max())
        seen.add(
            "all 1"
            if flat and mask.min() == 1
            else "all 0"
            if flat and mask.min() == 0
            else "constant"
            if flat
            else "varied"
        )
        seen.add("binary" if set(mask.unique().tolist()) == {0.0, 1.0} else "")
        seen.add("odd" if size[0] % 2 else "even")
        seen.add("square" if size[0] == size[1] else "oblong")

    look()
    assert seen >= {"all 1", "all 0", "varied", "binary", "odd", "even", "square", "oblong"}
