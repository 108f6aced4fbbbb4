from enum import IntEnum

import numpy as np
import pytest
import torch

from saliencykit import explain
from saliencykit.core.errors import InputError
from saliencykit.data.label_lookup import class_index
from saliencykit.testing.black_boxes import PlantedEvidence


def test_indices_names_and_the_data_sets_own_names(black_box):
    assert [class_index(label, black_box) for label in (2, "1", " 0 ", "Blue")] == [2, 1, 0, 2]
    assert class_index("aeroplane", black_box, {"aeroplane": 1}) == 1
    assert class_index("red", black_box, {"aeroplane": 1}) == 0
    for wrong in (3, "-1", "violet"):
        with pytest.raises(InputError):
            class_index(wrong, black_box)
    with pytest.raises(InputError, match="outside"):
        class_index("a", black_box, {"a": 9})


def test_wordnet_ids_of_a_thousand_classes():
    pytest.importorskip("timm")

    class Thousand(PlantedEvidence.__mro__[1]):
        num_classes, differentiable = 1000, False

        def logits(self, images):
            raise AssertionError

    assert [class_index(w, Thousand()) for w in ("n01440764", "n15075141")] == [0, 999]
    with pytest.raises(InputError):
        class_index("n00000000", Thousand())


@pytest.mark.parametrize(
    "label",
    [1.5, 2.0, float("nan"), object(), [1]],
    ids=["share", "float", "nan", "object", "list"],
)
def test_what_is_no_class_is_not_rounded_to_one(black_box, label):
    with pytest.raises(InputError, match="is not a class; expected an index"):
        class_index(label, black_box)


class Animal(IntEnum):
    CAT = 2


@pytest.mark.parametrize(
    "label",
    [
        np.int64(2),
        np.uint8(2),
        np.array(2),
        torch.tensor(2),
        torch.tensor(2, dtype=torch.uint8),
        torch.tensor([2])[0],
        Animal.CAT,
        np.str_("blue"),
        np.array("blue"),
    ],
    ids=repr,
)
def test_scalars_of_every_library_are_labels(black_box, label):
    assert class_index(label, black_box) == 2
    images = torch.rand(2, 3, 8, 8)
    options = {"masker": "whole-image", "verify": False}
    assert explain(black_box, images, label, **options).labels.tolist() == [2, 2]
    assert explain(black_box, images, [label, None], **options).labels[0] == 2


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"cat": 1, "dog": 2}, "not in the order of the images"),
        ({1, 2}, "not in the order of the images"),
        (np.array([1.0, 2.0]), r"1.0 is not a class.* Write 1\."),
        (np.array([True, False]), r"True is not a class.* Write 1 for yes"),
        (np.bool_(True), "True_? is not a class"),
        (b"cat", "is not a class"),
        (iter([1, 2]), "is not a class"),
        (np.array([1, 2, 1]), "3 labels for 2 images"),
    ],
)
def test_labels_that_could_be_misread_are_refused_in_one_line(black_box, labels, words):
    with pytest.raises(InputError, match=words) as caught:
        explain(black_box, torch.rand(2, 3, 8, 8), labels, masker="whole-image")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [np.array([1, 2]), torch.tensor([1, 2]), (1, 2), range(1, 3)])
def test_one_label_per_image_in_any_sequence(black_box, labels):
    images = torch.rand(2, 3, 8, 8)
    answer = explain(black_box, images, labels, masker="whole-image", verify=False)
    assert answer.labels.tolist() == [1, 2]
