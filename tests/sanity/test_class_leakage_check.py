"""A code is found; places and outlines are not mistaken for one."""

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.sanity.class_leakage_check import class_leakage
from saliencykit.testing.black_boxes import PlantedEvidence


class OwnCode(Masker):
    """Writes the label into the mask only where the image shows it: outlines that give their
    class away.
    """

    def mask(self, black_box, images, labels, generator):
        mask = torch.zeros(len(images), 1, 16, 16)
        for row, (label, own) in enumerate(
            zip(labels.tolist(), black_box(images).argmax(1).tolist(), strict=True)
        ):
            mask[row, :, :, 4 * label : 4 * label + 2] = float(label == own)
        return mask


@pytest.mark.slow  # in the quick tests test_run_checks has a code
def test_a_code_fails_and_honest_masks_pass(maskers, planted):
    black_box, images, labels = planted(240)
    code = class_leakage(black_box, maskers["code"], images, labels)
    assert code.passed is False
    assert code.other.accuracy.mean > 0.95
    assert code.own.accuracy.mean > 0.95
    assert code.other.control.mean < 0.45
    assert code.other.classes == 4
    assert "class-leakage: FAIL" in code.line
    honest = class_leakage(black_box, maskers["honest"], images)
    assert honest.passed
    assert honest.other.area == 0
    assert honest.other.difference.mean == 0, "of empty masks the controls are empty too"
    assert honest.own.area == pytest.approx(1 / 16)
    assert abs(honest.own.difference.mean) < 0.15
    assert honest.allowed == pytest.approx(0.05 + 1 / 3 - 1 / 4)


def test_masks_that_give_the_own_class_away_are_unclear(planted):
    black_box, images, _ = planted(120)
    found = class_leakage(black_box, OwnCode(), images)
    assert found.passed is None
    assert found.other.difference.mean == 0
    assert found.own.accuracy.mean > 0.9


def test_missing_masks_are_counted_and_too_few_are_refused(maskers, planted):
    black_box, images, labels = planted(60)
    found = class_leakage(black_box, maskers["halting"], images, labels)
    assert 20 <= found.other.accuracy.n < 40
    assert sum(found.missing.values()) >= 2 * 60 - found.other.accuracy.n - 30
    assert "masks missing" in found.line
    with pytest.raises(InputError, match="masks of 20 images, and needs 20"):
        class_leakage(black_box, maskers["halting"], images[:20], labels[:20])


def test_without_shared_classes_the_own_class_is_not_probed(maskers):
    """The explained classes need not be those of the images."""
    black_box = PlantedEvidence(num_classes=6)
    images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
    found = class_leakage(black_box, maskers["flat"], images, labels, classes=3)
    assert found.own is None
    assert found.other.classes == 3


def test_wrong_arguments_are_refused(maskers, planted):
    black_box, images, _ = planted(24)
    with pytest.raises(InputError, match="19 images"):
        class_leakage(black_box, maskers["flat"], images[:19])
    with pytest.raises(InputError, match="three classes"):
        class_leakage(PlantedEvidence(num_classes=2), maskers["flat"], images)
    with pytest.raises(InputError, match="cells=1"):
        class_leakage(black_box, maskers["flat"], images, cells=1)
