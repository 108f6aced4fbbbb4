"""Targets: every form that Captum takes picks the output that Captum picks."""

import pytest
import torch
from captum._utils.common import _select_targets

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum.targets import labels_of


@pytest.mark.parametrize(
    ("sizes", "target"),
    [
        ((5,), 3),
        ((5,), -1),
        ((5,), torch.tensor(2)),
        ((5,), torch.tensor([2])),
        ((5,), torch.tensor([0, 4, 1])),
        ((5,), torch.tensor([0, 4, 1], dtype=torch.int32)),
        ((5,), [0, 4, 1]),
        ((5,), (3,)),
        ((5,), [(1,), (0,), (4,)]),
        ((2, 3, 4), (1, 2, 3)),
        ((2, 3, 4), (-1, 0, -2)),
        ((2, 3, 4), [(1, 2, 3), (0, 0, 0), (1, 0, 2)]),
    ],
)
def test_captum_selects_the_same_output(sizes, target):
    output = torch.rand(3, *sizes, generator=torch.Generator().manual_seed(0))
    ours = output.flatten(1).gather(1, labels_of(target, sizes, 3)[:, None])[:, 0]
    if isinstance(target, torch.Tensor):
        target = target.long()  # torch 2.6 gathers by int64 only
    assert torch.equal(ours, _select_targets(output, target))


@pytest.mark.parametrize(
    ("sizes", "target"), [((), None), ((1,), None), ((1,), 0), ((1,), [0, 0, 0]), ((1, 1), (0, 0))]
)
def test_a_single_output_is_the_positive_class_of_a_sigmoid(sizes, target):
    assert labels_of(target, sizes, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("sizes", "target", "says"),
    [
        ((5,), None, "say which one with target="),
        ((5,), 5, "target 5 is outside of outputs"),
        ((5,), (1, 0), r"names no output of a model with outputs of shape \(B, 5\); give 1"),
        ((2, 3), 1, "names more than one output"),
        ((), 0, r"outputs of shape \(B\); give 0"),
        ((5,), [1, 2], "got 2 targets for 3 rows"),
        ((5,), torch.tensor([1, 2]), "got 2 targets for 3 rows"),
        ((5,), torch.tensor([1.0]), "whole numbers"),
        ((5,), torch.zeros(3, 1, dtype=torch.int64), "whole numbers"),
        ((5,), True, "got bool True"),
        ((5,), "cat", "got str 'cat'"),
        ((2, 3), (slice(None), 1), "got slice"),
    ],
)
def test_targets_that_select_no_output_are_refused(sizes, target, says):
    with pytest.raises(InputError, match=says):
        labels_of(target, sizes, 3)
