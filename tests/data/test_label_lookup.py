import numpy as np
import pytest
import torch

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


def test_numbers_of_numpy_and_torch_are_indices(black_box):
    assert class_index(np.int64(2), black_box) == class_index(torch.tensor(2), black_box) == 2
