import pytest
import torch

from saliencykit.networks.tolerance import close_to_rounding

WANTED = torch.tensor([[-5.0, 0.0, 5.0]])


@pytest.mark.parametrize(
    ("shift", "same"), [(0.0, True), (0.009, True), (0.02, False), (float("nan"), False)]
)
def test_a_thousandth_of_the_range(shift, same):
    assert close_to_rounding(WANTED + shift, WANTED) is same


def test_other_precisions_and_shapes():
    assert close_to_rounding(WANTED.double(), WANTED)
    assert not close_to_rounding(WANTED[:, :2], WANTED)
    assert close_to_rounding(torch.ones(3), torch.ones(3))  # no range: equal numbers still are
    assert not close_to_rounding(torch.ones(3), torch.zeros(3))
