from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.errors import InputError
from saliencykit.terms.area import Area, LogArea, PowerArea
from saliencykit.testing.strategies import trials


@given(trials(), st.floats(0.05, 1), st.floats(1e-4, 1))
def test_areas_match_a_loop_over_pixels(trial, power, offset):
    masks = trial.mask.numpy()[:, 0]
    mean = [sum(v for row in mask for v in row) / mask.size for mask in masks]
    np.testing.assert_allclose(Area()(trial).numpy(), mean, rtol=1e-9, atol=1e-12)
    logarithms = [np.log((m + offset) / offset) for m in mean]
    np.testing.assert_allclose(
        LogArea(offset=offset)(trial).numpy(), logarithms, rtol=1e-7, atol=1e-12
    )
    bent = [sum((v + offset) ** power for row in mask for v in row) / mask.size for mask in masks]
    np.testing.assert_allclose(
        PowerArea(power=power, offset=offset)(trial).numpy(), bent, rtol=1e-9
    )


@given(trials(), st.floats(0, 1))
def test_it_grows_with_the_mask(trial, step):
    larger = replace(trial, mask=trial.mask + step * (1 - trial.mask))
    for term in (Area(), PowerArea(), LogArea()):
        assert (term(larger) >= term(trial) - 1e-12).all()


def test_a_power_below_1_prefers_binary_masks_of_the_same_area():
    from saliencykit.core.objective import Trial

    binary = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    none = torch.zeros(1)
    trial = Trial(binary, none, none, binary, none, none)
    gray = replace(trial, mask=torch.full_like(binary, 0.5))
    assert Area()(trial) == Area()(gray)
    assert PowerArea()(trial) < PowerArea()(gray)


@pytest.mark.parametrize("wrong", [{"power": 0}, {"power": 1.1}, {"offset": 0}, {"offset": -1.0}])
def test_bad_arguments(wrong):
    with pytest.raises(InputError, match=r"\((power|offset)=.*takes a number in"):
        PowerArea(**wrong)


def test_they_do_not_read_logits():
    assert (Area.reads_logits, PowerArea.reads_logits) == (False, False)


def test_log_area_charges_the_same_for_growing_by_half():
    from saliencykit.core.objective import Trial

    none, term = torch.zeros(1), LogArea(offset=1e-9)
    price = []
    for share in (0.1, 0.4):
        small, large = (
            Trial(none, none, none, torch.full((1, 1, 4, 4), area), none, none)
            for area in (share, 1.5 * share)
        )
        price.append(float(term(large) - term(small)))
    assert price[0] == pytest.approx(price[1], rel=1e-4)


def test_an_offset_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="offset"):
        LogArea(offset=0.0)
