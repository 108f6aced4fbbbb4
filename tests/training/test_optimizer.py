import math

import pytest
import torch

from saliencykit.alternatives.constant import Constant
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.objective import Objective
from saliencykit.maskers.realtime.encoder import StandaloneEncoder
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.terms.area import Area
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.training.optimizer import Optimizer
from saliencykit.training.schedule import Schedule

accelerate = pytest.importorskip("accelerate")


@pytest.fixture
def optimizer(generator):
    """`optimizer(**schedule)`: on a tiny network."""

    def make(directory=None, **options):
        black_box = PlantedEvidence()
        images, _ = black_box.examples(4, generator=generator, size=8)
        network = masking_network(
            black_box, images, encoder=StandaloneEncoder(widths=(4, 6), depth=1, size=(8, 8))
        )
        schedule = Schedule(
            Objective((Area(),)), Constant(), **{"pixel_steps": 100, "lr": 1e-2, **options}
        )
        return Optimizer(network, schedule, accelerate.Accelerator(cpu=True), directory)

    return make


def rates(optimizer, number):
    optimizer.set_rate(number)
    names = [
        name for name, parameter in optimizer.network.named_parameters() if parameter.requires_grad
    ]
    return {
        name: group["lr"] for name, group in zip(names, optimizer.adam.param_groups, strict=True)
    }


def test_the_learning_rate_rises_and_falls(optimizer):
    one = optimizer()
    course = [rates(one, number)["decoder.last.weight"] for number in range(100)]
    assert course[0] < 1e-3
    assert course.index(max(course)) in range(15, 25)
    assert max(course) == pytest.approx(1e-2, rel=0.15)
    assert course[-1] == pytest.approx(0.02 * 1e-2, rel=0.05)


def test_every_phase_has_a_ramp_of_its_own_and_composed_steps_after_mixed_ones_are_gentler(
    optimizer,
):
    one = optimizer(warmup_steps=30, mixing_steps=60, pixel_steps=60)
    course = [rates(one, number)["decoder.last.weight"] for number in range(150)]
    assert course[30] < 0.1 * max(course[30:90])
    assert course[90] < 0.1 * max(course[90:])
    assert max(course[90:]) < 0.3 * max(course[30:90])


def test_in_the_warm_up_the_gate_rests_and_the_rows_are_quick(optimizer):
    one = optimizer(warmup_steps=100)
    early, late = rates(one, 20), rates(one, 120)
    assert early["selector.log_scale"] == early["selector.log_threshold"] == 0
    assert early["selector.weight"] > early["decoder.last.weight"]
    assert 0 < late["selector.log_scale"] < late["selector.weight"] < late["decoder.last.weight"]


def loss_of(one, names):
    return sum(
        parameter.square().sum()
        for name, parameter in one.network.named_parameters()
        if name in names
    )


def test_what_the_loss_does_not_reach_stays_as_it_is(optimizer):
    one = optimizer()
    before = {name: parameter.clone() for name, parameter in one.network.named_parameters()}
    for number in range(3):
        one.set_rate(number)
        assert one.step(loss_of(one, {"selector.weight"}), number)
    changed = {
        name
        for name, parameter in one.network.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert changed == {"selector.weight"}, "weight decay alone is a whole step of Adam"
    assert all(parameter.grad is None for parameter in one.network.parameters())


def test_large_gradients_are_clipped(optimizer):
    one, seen = optimizer(), []
    one.adam.step = lambda: seen.extend(
        p.grad.norm() for p in one.network.parameters() if p.grad is not None
    )
    one.step(1e6 * loss_of(one, {"selector.weight", "decoder.first.0.weight"}), 0)
    assert torch.stack(seen).norm().item() == pytest.approx(2.0, rel=1e-3)


def test_what_is_not_finite_is_skipped(optimizer):
    one = optimizer()
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    assert not one.step(loss_of(one, {"selector.weight"}) * math.nan, 0)
    assert not one.step(torch.tensor(math.inf), 1)
    zero = loss_of(one, {"selector.weight"}) * 0
    assert not one.step(zero.sqrt(), 2), "a finite loss, an infinite gradient"
    assert all(torch.equal(value, before[name]) for name, value in one.network.state_dict().items())
    assert one.bad == 3
    assert one.step(loss_of(one, {"selector.weight"}), 3)
    assert one.bad == 0


def test_five_in_a_row_stop(optimizer, tmp_path):
    one = optimizer(tmp_path)
    for number in range(4):
        one.step(torch.tensor(math.nan), number)
    with pytest.raises(
        SaliencyKitError,
        match=r"in 5 steps in a row \(up to step 5\); the last checkpoint is in .*: because\. "
        r"Lower lr",
    ):
        one.step(torch.tensor(math.nan), 4, "because.")


def test_alone_there_is_nobody_to_agree_with(optimizer):
    one = optimizer()
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    one.broadcast(), one.average_buffers()
    assert all(torch.equal(value, before[name]) for name, value in one.network.state_dict().items())
