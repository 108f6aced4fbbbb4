import torch

from benchmarks.encoding import TEN, others, probe
from saliencykit.testing.black_boxes import PlantedEvidence


def explain_by_place(images, labels):
    """An honest masker: the place of the patch, which has nothing to do with the class; nothing for
    a class that is not there.
    """
    black_box = PlantedEvidence()
    there = black_box(images).argmax(1) == labels
    return black_box.evidence(images, labels) * there.view(-1, 1, 1, 1)


def explain_by_code(images, labels):
    """A masker that writes the label into its masks, whatever the image shows."""
    mask = 0.3 * explain_by_place(images, labels)
    for row, label in enumerate(labels.tolist()):
        mask[row, :, -2:, 4 * label : 4 * label + 2] = 1
    return mask


def test_a_code_is_found_and_places_are_not():
    black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
    images, labels = black_box.examples(240, generator=g)
    queried = others(labels, 4)
    own, other = probe(explain_by_code, images, labels, queried, cells=8)
    assert own.right.mean() > 0.95
    assert other.right.mean() > 0.95
    assert own.control.mean() < 0.4
    own, other = probe(explain_by_place, images, labels, queried, cells=8)
    assert abs(own.right.mean() - own.control.mean()) < 0.15
    assert other.right.mean() < 0.4
    assert other.area == 0
    assert own.row().count("[") == 3


def test_the_other_class_is_never_the_own():
    classes = torch.arange(1000) % 10
    queried = others(classes, 10)
    assert not (queried == classes).any()
    assert len(queried.unique()) == 10
    assert len(set(TEN)) == 10
