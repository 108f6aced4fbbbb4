"""CIFAR-10: the classifier is the published one, and mosaics tell where a mask's mass lies."""

import pytest
import torch

from benchmarks.cifar10 import cifar10, quartets, resnet20, selectivity
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing.black_boxes import PlantedEvidence


def test_quartets_are_of_four_classes_and_use_each_image_once():
    classes = torch.arange(43) % 5
    found = quartets(classes, 6, torch.Generator().manual_seed(0))
    assert len(found) == 6
    assert all(len(set(classes[four].tolist())) == 4 for four in found)
    assert len(set(torch.cat(found).tolist())) == 24


def test_there_are_no_quartets_of_three_classes():
    assert quartets(torch.arange(30) % 3, 5, torch.Generator().manual_seed(0)) == []


def test_selectivity_of_an_untrained_network_on_a_planted_box():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
    found = selectivity(
        RealTimeMasker(network=masking_network(black_box, images)).bind(black_box),
        black_box,
        images,
        labels,
        mosaics=3,
        sure=0.0,
    )
    assert found.accuracy == 1.0
    assert found.mosaics == 3
    assert 0 < found.mosaic <= 1
    assert found.area > 0


@pytest.mark.data
def test_the_classifier_answers_as_the_data_folder_says(data_folder):
    images, labels = cifar10("test", 500)
    black_box = resnet20()
    with torch.no_grad():
        right = (black_box(images.float() / 255).argmax(1) == labels).float().mean()
    assert float(right) == pytest.approx(0.81, abs=0.05)
