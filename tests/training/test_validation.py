import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.alternatives.constant import Constant
from saliencykit.maskers.realtime.encoder import Encoder, Features, StandaloneEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.selector import ClassSelector
from saliencykit.maskers.realtime.unet_decoder import UNet
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from saliencykit.training.validation import (
    AREAS,
    ValidationReport,
    other_labels,
    quarter_shares,
    top,
    validate,
)
from tests.helpers import seeded

GRAY = Constant(color=0.5)


class Pixels(Encoder):
    """The image itself, averaged over `coarse` pixels."""

    kind, channels, trained = "pixels", (3,), False
    sides = ((16, 16),)

    def encode(self, black_box, images):
        return Features((images,), None, (images.shape[2], images.shape[3]))

    def options(self):
        return {}


class Knowing(ClassSelector):
    """Opens where the box's own patch of the class is, and nowhere else."""

    num_classes = 4

    def forward(self, coarse, labels):
        black_box, rows = PlantedEvidence(), []
        for image, label in zip(coarse, labels, strict=True):
            there = black_box(image[None])[0, label] > 4
            rows.append(
                black_box.evidence(image[None], label[None])[0] * 40 - 20
                if there
                else torch.full((1, *image.shape[1:]), -20.0)
            )
        return torch.stack(rows)

    def class_logits(self, coarse):
        return PlantedEvidence()(coarse)


class Blind(ClassSelector):
    """The same everywhere, whatever is queried."""

    num_classes = 4

    def forward(self, coarse, labels):
        return coarse[:, :1] * 0

    def class_logits(self, coarse):
        return coarse.mean((2, 3))


def network(selector):
    return MaskingNetwork(Pixels(), selector, UNet((3,), ((16, 16),), (16, 16), widths=(4,)))


@pytest.fixture(scope="module")
def held_out():
    return PlantedEvidence().examples(16, generator=seeded())


def test_a_network_that_knows_the_answer(held_out):
    gate = validate(network(Knowing()), PlantedEvidence(), *held_out, alternative=GRAY)
    assert gate.n == 16
    assert gate.mosaic == pytest.approx(1.0, abs=1e-3)
    assert gate.fake < 0.01
    assert gate.area == pytest.approx(1 / 16, abs=1e-3)
    assert gate.kept == pytest.approx(gate.whole, abs=0.01)
    assert gate.dropped == pytest.approx(0.25, abs=0.02)
    assert all(kept == pytest.approx(gate.whole, abs=0.01) for kept in gate.kept_at)
    assert gate.passed
    assert gate.score > 1.5


def test_a_blind_one(held_out):
    gate = validate(network(Blind()), PlantedEvidence(), *held_out, alternative=GRAY)
    assert gate.mosaic == pytest.approx(0.25, abs=1e-6)
    assert gate.fake == pytest.approx(1.0)
    assert not gate.passed
    assert gate.area == pytest.approx(0.5, abs=1e-3)
    assert len(gate.kept_at) == len(gate.dropped_at) == len(AREAS)


def test_the_same_for_any_batch_and_seed_of_its_own(held_out):
    gates = [
        validate(
            network(Knowing()), PlantedEvidence(), *held_out, alternative=GRAY, batch_size=batch
        )
        for batch in (3, 16)
    ]
    for key, value in gates[0].as_dict().items():
        assert gates[1].as_dict()[key] == pytest.approx(value, abs=1e-5), key


def test_network_box_and_random_state_stay_as_they_were(held_out, trunk_black_box):
    black_box = trunk_black_box()
    own = MaskingNetwork(
        StandaloneEncoder((4, 6), 1),
        Knowing(),
        UNet((4, 6), ((32, 32), (16, 16)), (32, 32), widths=(4,)),
    )
    own.selector = Blind()
    own.train()
    with untouched("score", own), untouched("score", black_box.model, images=held_out[0]):
        gate = validate(
            own,
            black_box,
            torch.rand(5, 3, 32, 32, generator=seeded()),
            torch.tensor([0, 1, 2, 3, 1]),
            alternative=GRAY,
        )
    assert own.training
    assert gate.n == 5


def test_too_few_classes_for_mosaics(held_out):
    images, labels = held_out
    gate = validate(
        network(Knowing()),
        PlantedEvidence(),
        images[labels < 3],
        labels[labels < 3],
        alternative=GRAY,
    )
    assert math.isnan(gate.mosaic)
    assert gate.passed
    assert math.isfinite(gate.score)


def test_passing():
    good = ValidationReport(8, 0.9, 0.3, 0.8, 0.2, (0.5,) * 4, (0.1,) * 4, 0.1, 0.7)
    assert good.passed
    assert good.score == pytest.approx(0.4 + 0.6)
    for change in ({"fake": 0.2}, {"mosaic": 0.3}, {"kept_at": (0.5, 0.5, 0.5, 0.05)}):
        facts = {
            key: value for key, value in good.as_dict().items() if key not in ("score", "passed")
        } | change
        assert not ValidationReport(**facts).passed
    small = {
        key: value for key, value in good.as_dict().items() if key not in ("score", "passed")
    } | {"kept": 0.4, "dropped": 0.5}
    assert ValidationReport(**small).passed  # a small mask against all the rest of the image


@given(area=st.floats(0.001, 1), seed=st.integers(0, 5))
def test_top_keeps_the_best_pixels(area, seed):
    mask = torch.rand(2, 1, 7, 9, generator=seeded(seed))
    chosen = top(mask, area)
    count = max(1, round(area * 63))
    assert chosen.shape == mask.shape
    assert chosen.flatten(1).sum(1).tolist() == [count, count]
    for row in range(2):
        kept, partial_network = mask[row][chosen[row] == 1], mask[row][chosen[row] == 0]
        assert not len(partial_network) or kept.min() >= partial_network.max()


def test_ties_go_to_the_earlier_ones():
    assert top(torch.zeros(1, 1, 2, 2), 0.5).flatten().tolist() == [1, 1, 0, 0]


@given(classes=st.integers(2, 50), seed=st.integers(0, 100))
def test_other_labels_are_other_labels(classes, seed):
    labels = torch.randint(classes, (200,), generator=seeded(seed))
    others = other_labels(labels, classes, seeded(seed + 1))
    assert bool((others != labels).all())
    assert 0 <= others.min() <= others.max() < classes


def test_all_other_labels_are_equally_likely():
    others = other_labels(torch.full((6000,), 2), 4, seeded())
    counts = torch.bincount(others, minlength=4)
    assert counts[2] == 0
    assert bool((counts[[0, 1, 3]] > 1850).all())
    assert other_labels(torch.tensor([0, 0]), 1, seeded()).tolist() == [0, 0]


def test_quarter_shares():
    masks = torch.zeros(4, 4, 6)
    masks[0, :2, :3] = 1  # its own quarter, and nothing else
    masks[1, :2] = 1  # the upper half: half of it is right
    masks[2] = 0.5  # everywhere
    masks[3, :2, :3] = 1  # another one's
    assert quarter_shares(masks).tolist() == pytest.approx([1.0, 0.5, 0.25, 0.0])
