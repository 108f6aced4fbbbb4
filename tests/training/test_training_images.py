import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import is_folder
from saliencykit.data.training_images import TrainingImages, read_training_images
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched

LABELS = [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.fixture
def tensors(generator):
    return (PlantedEvidence().examples(8, generator=generator)[0] * 255).round() / 255


@pytest.fixture
def arrays():
    """Images of several sizes, as (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8) for i in range(8)]


@pytest.fixture
def folder(arrays, tmp_path):
    for number, array in enumerate(arrays):
        path = tmp_path / "some" / f"{number}.png" if number % 2 else tmp_path / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(path)
    return tmp_path


def read(source, black_box, labels=None, **options):
    use_labels = labels is not None or not is_folder(source)
    data = Dataset.open(source, black_box, labels=labels, use_labels=use_labels)
    return read_training_images(data, **options)


# what is read


def test_a_tensor_comes_back_as_it_was(tensors, black_box):
    with untouched("read_training_images", tensors=tensors):
        photos = read(tensors, black_box)
    assert len(photos) == 8
    assert photos.pixels.dtype == torch.uint8
    assert photos.labels is None
    assert photos.skipped == ()
    assert torch.allclose(photos.images(torch.tensor([3, 0])), tensors[[3, 0]], atol=1e-6)


class ClassFilters:
    """A data set of images, or of (image, label)."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


def test_every_form_says_the_same(folder, arrays, trunk_black_box):
    black_box = trunk_black_box()
    paths = [folder / "some" / f"{n}.png" if n % 2 else folder / f"{n}.png" for n in range(8)]
    pils = [Image.fromarray(array) for array in arrays]
    wanted = read(pils, black_box).pixels
    forms = {
        "paths": paths,
        "texts": [str(path) for path in paths],
        "arrays": arrays,
        "data set": ClassFilters(pils),
        "labelled": ClassFilters(list(zip(pils, LABELS, strict=True))),
        "tuple": tuple(arrays),
    }
    for name, form in forms.items():
        assert torch.equal(read(form, black_box).pixels, wanted), name
    in_order = sorted(range(8), key=lambda n: str(paths[n]))
    assert torch.equal(read(folder, black_box).pixels, wanted[in_order])
    assert torch.equal(read(str(folder), black_box).pixels, wanted[in_order])


def test_batches_of_a_loader(tensors, black_box):
    data = torch.utils.data.TensorDataset(tensors, torch.tensor(LABELS))
    photos = read(torch.utils.data.DataLoader(data, batch_size=3), black_box)
    assert photos.labels.tolist() == LABELS
    assert torch.equal(photos.pixels, read(tensors, black_box).pixels)
    assert read((batch for batch in tensors.split(3)), black_box).labels is None
    assert read(iter([(tensors,)]), black_box).labels is None


def test_uint8_tensors_and_arrays(tensors, trunk_black_box):
    black_box = trunk_black_box()
    bytes_ = (torch.nn.functional.interpolate(tensors, size=32) * 255).round().to(torch.uint8)
    wanted = read(bytes_.float() / 255, black_box).pixels
    assert torch.equal(read(bytes_, black_box).pixels, wanted)
    assert torch.equal(read(bytes_.permute(0, 2, 3, 1).numpy(), black_box).pixels, wanted)


def test_labels_of_a_data_set_and_of_the_user(tensors, black_box):
    rows = ClassFilters([(photo, label) for photo, label in zip(tensors, LABELS, strict=True)])
    assert read(rows, black_box).labels.tolist() == LABELS
    rows.targets = LABELS[::-1]
    assert read(rows, black_box).labels.tolist() == LABELS[::-1]
    assert read(rows, black_box, torch.tensor(LABELS)).labels.tolist() == LABELS


# bad data


def test_a_damaged_photo_is_named_and_left_out(folder, trunk_black_box):
    (folder / "3_damaged.png").write_bytes((folder / "2.png").read_bytes()[:60])
    with pytest.warns(UserWarning, match=r"leaves out 1 of 9 images: .*3_damaged\.png"):
        photos = read(folder, trunk_black_box())
    assert len(photos) == 8
    assert "3_damaged.png" in photos.skipped[0]


def test_labels_stay_with_their_photos(folder, trunk_black_box):
    paths = sorted(folder.rglob("*.png"))
    paths[2].write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="leaves out 1"):
        photos = read(paths, trunk_black_box(), [0, 1, 2, 3, 0, 1, 3, 3])
    assert photos.labels.tolist() == [0, 1, 3, 0, 1, 3, 3]


def test_of_many_only_the_first_are_named(tensors, black_box):
    class Moody(ClassFilters):
        def __getitem__(self, row):
            if row % 2:
                raise OSError(f"disk error {row}")
            return self.items[row]

    with pytest.warns(
        UserWarning,
        match=r"leaves out 8 of 16 images: 1: OSError: disk error 1; .* \.\.\. and 3 more",
    ):
        assert len(read(Moody([*tensors, *tensors]), black_box)) == 8


def test_a_data_set_that_raises_on_some_labelled_rows(tensors, black_box):
    class Moody(ClassFilters):
        def __getitem__(self, row):
            if row == 2:
                raise OSError("disk error")
            return self.items[row]

    rows = Moody(
        [(photo, label) for photo, label in zip(tensors, [1, 1, 3, 2, 2, 1, 2, 1], strict=True)]
    )
    with pytest.warns(UserWarning, match="2: OSError: disk error"):
        assert read(rows, black_box).labels.tolist() == [1, 1, 2, 2, 1, 2, 1]


def test_photos_of_several_sizes(black_box, generator):
    one, other = (black_box.examples(2, generator=generator, size=size)[0] for size in (16, 20))
    with pytest.raises(
        InputError, match=r"image 2 has .* \(3, 20, 20\) and the first one \(3, 16, 16\)"
    ):
        read([*one, *other], black_box)


def test_a_class_with_one_photo_is_named(tensors, black_box):
    with pytest.warns(UserWarning, match="class 1, 3 has only one image"):
        read(tensors, black_box, [0, 0, 0, 1, 2, 2, 2, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tensors, black_box, LABELS)


@pytest.mark.parametrize("labels", [[0, 1, 2, 4, 0, 1, 2, 3], [0, -1, 2, 3, 0, 1, 2, 3]])
def test_labels_out_of_range(tensors, black_box, labels):
    with pytest.raises(InputError, match=r"image \d has the label .* outside 0\.\.3"):
        read(tensors, black_box, labels)


def test_labels_of_another_number(tensors, black_box):
    with pytest.raises(InputError, match="8 images and 7 labels"):
        read(tensors, black_box, LABELS[:7])


def test_too_few(tensors, black_box):
    with pytest.raises(
        InputError, match=r"at least 4 images that can be read; hundreds are better. Got 3"
    ):
        read(tensors[:3], black_box)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "Got 0"),
        (iter([]), "Got 0"),
        (torch.zeros(3, 16, 16), r"\(N, C, H, W\).*; got Tensor of shape \(3, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), r"\(N, C, H, W\)"),
        (3, "got int"),
        ("nowhere", "not a folder"),
        ("", "not a folder"),
    ],
)
def test_nothing_to_read(black_box, source, words):
    with pytest.raises(InputError, match=words):
        read(source, black_box)


def test_pixels_out_of_range_are_named(tensors, black_box):
    with pytest.warns(UserWarning, match="leaves out 1 of 8"):
        assert len(read(torch.cat([tensors[:7], tensors[7:] * 255]), black_box)) == 7


def test_rows_of_photos():
    photos = TrainingImages(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1), None)
    assert torch.allclose(photos.images(torch.tensor([3])), torch.tensor(3 / 255).view(1, 1, 1, 1))


@pytest.mark.filterwarnings("ignore:fit. class . has only one image")
def test_of_more_than_memory_holds_a_part_is_drawn_and_not_the_first():
    from saliencykit.testing.black_boxes import PlantedEvidence

    black_box = PlantedEvidence()
    tensors = torch.arange(40).view(-1, 1, 1, 1).expand(40, 3, 8, 8) / 255
    some = read(tensors, black_box, list(range(4)) * 10, memory=10 * 3 * 8 * 8)
    which = some.pixels[:, 0, 0, 0].long()
    assert len(some) == 10
    assert which.tolist() != list(range(10))
    assert torch.equal(some.labels, which % 4)


@pytest.mark.parametrize(
    "label", ["cat", 0.5, None, torch.tensor(1.0)], ids=["text", "fraction", "none", "float tensor"]
)
def test_labels_that_are_not_classes_are_refused(tensors, black_box, label):
    """A name must not become class 0, nor a share be rounded down."""
    labels = [*LABELS[:-1], label]
    pairs = list(zip(tensors, labels, strict=True))
    for given in ((pairs, None), (tensors, labels)):
        with pytest.raises(InputError, match=r"image 7 has"):
            read(given[0], black_box, given[1])
    rows = ClassFilters(pairs)
    rows.targets = labels
    with pytest.raises(InputError, match="image 7 has"):
        read(rows, black_box)


def test_photos_whose_labels_are_all_none_have_none(tensors, black_box):
    assert read([(photo, None) for photo in tensors], black_box).labels is None
    with pytest.raises(InputError, match="image 7 has no label"):
        read([*zip(tensors[:-1], LABELS, strict=False), tensors[-1]], black_box)
    with pytest.raises(InputError, match=r"image 1.0 has no label"):
        read(iter([(tensors[:4], torch.tensor(LABELS[:4])), tensors[4:]]), black_box)


def test_labels_are_kept_where_the_first_photo_is_damaged(tensors, black_box):
    class Moody(ClassFilters):
        def __getitem__(self, row):
            if row == 0:
                raise OSError("disk error")
            return self.items[row]

    rows = Moody(
        [(photo, label) for photo, label in zip(tensors, [1, 1, 3, 2, 2, 1, 2, 3], strict=True)]
    )
    with pytest.warns(UserWarning, match="0: OSError: disk error"):
        assert read(rows, black_box).labels.tolist() == [1, 3, 2, 2, 1, 2, 3]
