import pytest
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.data.image_folder import folder_records


def images(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / path)
    return root


def test_folders_are_classes_by_name_and_index(black_box, class_folders, tmp_path):
    entries = folder_records(class_folders, black_box)
    assert [e.name for e in entries] == sorted(e.name for e in entries)
    assert all(black_box.class_names[e.label] == e.name.split("/")[0] for e in entries)
    assert [
        e.label
        for e in folder_records(
            images(tmp_path / "b", "2/x.png", "0/deep/y.png", "z.png"), black_box
        )
    ] == [0, 2, None]


def test_as_many_unknown_folders_as_classes_are_the_classes(black_box, tmp_path):
    root = images(tmp_path / "a", "n1/x.png", "n2/x.png", "n3/x.png")
    assert [e.label for e in folder_records(root, black_box)] == [0, 1, 2]
    assert [e.label for e in folder_records(root, black_box, {"n1": 2, "n2": 2, "n3": 0})] == [
        2,
        2,
        0,
    ]


def test_a_folder_that_is_no_class(black_box, tmp_path):
    root = images(tmp_path / "a", "red/x.png", "violet/x.png")
    with pytest.raises(InputError, match="folder 'violet' is not a class"):
        folder_records(root, black_box)
    assert [e.label for e in folder_records(root, black_box, look_up=False)] == [None, None]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        folder_records(tmp_path / "empty", black_box)
