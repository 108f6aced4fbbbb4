"""Images of any form, with the model's own answers."""

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.sanity.check_images import load_check_images


@pytest.fixture
def folder(tmp_path, planted):
    """Two folders of names that no model knows, and a damaged file."""
    images = planted(8)[1]
    for i, image in enumerate(images):
        path = tmp_path / "photos" / "ab"[i // 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    (tmp_path / "photos" / "b" / "damaged.png").write_bytes(b"nothing")
    return tmp_path / "photos"


def test_a_folder_is_read_with_its_subfolders(folder, patch_black_box, planted):
    labels = planted(8)[2]
    found = load_check_images(folder, patch_black_box)
    assert torch.equal(found.labels, labels)
    assert found.images.shape == (8, 3, 16, 16)
    assert list(found.missing.values()) == [1]
    assert "damaged.png" in next(iter(found.missing))
    assert (
        load_check_images(str(folder), patch_black_box, max_images=4).labels.tolist()
        == labels[[0, 2, 4, 6]].tolist()
    ), "evenly spaced"


def test_tensors_samples_pairs_and_arrays_are_read(planted, patch_black_box):
    black_box, images, labels = planted(6)
    for data in (
        images,
        list(images),
        [(image, 3) for image in images],
        iter(images),
        [Sample(images, labels)],
    ):
        found = load_check_images(data, black_box)
        assert torch.equal(found.labels, labels), "given labels are ignored"
        assert torch.equal(found.images, images)
    arrays = [(image * 255).round().byte().permute(1, 2, 0).numpy() for image in images]
    assert torch.equal(load_check_images(arrays, patch_black_box).labels, labels)
    assert len(load_check_images(images, black_box, max_images=5).labels) == 5


def test_images_of_another_size_are_counted_as_missing(planted):
    black_box, images, _ = planted(3)
    found = load_check_images([*images, torch.rand(3, 20, 20)], black_box)
    assert found.missing == {"of another size than the first image": 1}


def test_wrong_arguments_are_refused(tmp_path, planted):
    black_box, images, _ = planted(2)
    for data, words in (
        (tmp_path / "nowhere", "nowhere"),
        (tmp_path, "no images"),
        (images[0], r"\(N, C, H, W\)"),
        (3, "iterable"),
    ):
        with pytest.raises(InputError, match=words):
            load_check_images(data, black_box)
    with pytest.raises(InputError, match="max_images=0"):
        load_check_images(images, black_box, max_images=0)
    with pytest.raises(InputError, match="could be read"):
        load_check_images([np.full((3, 3), "x")], black_box)
