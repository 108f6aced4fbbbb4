import shutil
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data.sources import records_of


def test_imagenets_own_folders_are_known(black_box, flat, xml, tmp_path, loc_solution):
    root = tmp_path / "ILSVRC"
    shutil.copytree(flat, root / "Data" / "CLS-LOC" / "val")
    from_table = list(records_of(root, black_box))  # the challenge's table lies beside the folder
    shutil.copytree(xml, root / "Annotations" / "CLS-LOC" / "val")
    from_xml = list(records_of(root, black_box))
    assert [(e.name, e.label) for e in from_table] == [(e.name, e.label) for e in from_xml]
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(from_table, from_xml, strict=True))
    assert from_xml[0].label == "red"


def test_the_first_images_of_a_sorted_folder_are_of_one_class(black_box, tmp_path):
    for index in range(6):
        (tmp_path / str(index // 3)).mkdir(exist_ok=True)
        (tmp_path / str(index // 3) / f"{index}.png").touch()
    with pytest.warns(UserWarning, match="the first 3 of 6 images are of one class"):
        assert [e.label for e in records_of(tmp_path, black_box, max_images=3)] == [0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records_of(tmp_path, black_box, max_images=4)
        records_of(tmp_path / "0", black_box, max_images=2)


def test_a_label_that_is_missing_is_a_reason(black_box, flat):
    entries = list(records_of(flat, black_box, labels={"image_00": 1, "image_01.png": "red"}))
    assert [e.label for e in entries[:3]] == [1, "red", None]
    assert [e.failure is None for e in entries[:3]] == [True, True, False]


def test_a_broken_annotation_is_a_reason(black_box, flat, xml):
    (xml / "image_03.xml").write_text("<annotation><object>")
    entries = list(records_of(flat, black_box, boxes=xml))
    assert [e.failure is None for e in entries] == [i != 3 for i in range(12)]


def test_a_loader_of_batches(black_box):
    loader = DataLoader(
        TensorDataset(torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])), batch_size=2
    )
    assert [e.label for e in records_of(loader, black_box)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("source", "more", "match"),
    [
        ("nowhere", {}, "not a folder or a table"),
        ("", {}, "not a folder or a table"),
        (3, {}, "an iterable of images or pairs .*; got int"),
        ([], {"labels": {"a": 1}}, "contain their own"),
        ("voc:nowhere", {}, "cannot be opened"),
    ],
)
def test_what_is_no_source(black_box, source, more, match):
    with pytest.raises(InputError, match=match):
        records_of(source, black_box, **more)


def test_a_list_is_counted_by_its_images(black_box):
    sample, images = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])), torch.rand(5, 3, 8, 8)
    source = [sample, (images, torch.arange(5) % 4), (images[0], 1), images[:2]]
    assert len(records_of(source, black_box)) == 11
    assert len(records_of(source, black_box, max_images=4)) == 4
    assert not isinstance(records_of(iter(source), black_box), list)


def test_labels_in_the_order_of_the_images(black_box, flat):
    labels = [i % 3 for i in range(12)]
    assert [e.label for e in records_of(flat, black_box, labels=labels)] == labels
    assert [e.label for e in records_of(flat, black_box, labels=labels, max_images=2)] == [0, 1]
    images = iter(torch.rand(12, 3, 8, 8))
    assert [e.label for e in records_of(images, black_box, labels=torch.tensor(labels))] == labels
    with pytest.raises(InputError, match="12 images and 2 labels"):
        records_of(flat, black_box, labels=[0, 1])


def test_without_labels_a_detection_data_set_has_each_image_once(black_box, voc):
    names = [e.name for e in records_of(f"voc:{voc}", black_box, use_labels=False)]
    assert len(names) == len(set(names)) == 12
    assert len(records_of(f"voc:{voc}", black_box)) == 13


def test_items_of_another_form(black_box):
    with pytest.raises(InputError, match="item 0 of the data is int"):
        list(records_of([3], black_box))


def test_batches_with_other_numbers_of_labels_are_named(black_box):
    with pytest.raises(InputError, match="item 0 of the data is a batch of 3 images and 2 labels"):
        list(records_of([(torch.rand(3, 3, 8, 8), torch.tensor([0, 1]))], black_box))
