"""Batches of every engine: the images that they hold, and results in the same type."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from saliencykit.core.errors import InputError
from saliencykit.data.batch_columns import batch_records, with_columns

COLUMNS = {
    "label": ("int64", [3, None]),
    "area": ("double", [None, 0.5]),
    "mask": ("binary", [b"a\0\0", None]),
    "failure": ("string", [None, "damaged"]),
}
WITHOUT_NULLS = {
    "id": [7, 8],
    "label": [3, -1],
    "area": [np.nan, 0.5],
    "mask": [b"a\0\0", b""],
    "failure": ["", "damaged"],
}
BATCH = {"image": [b"one\0", b"two"], "id": [7, 8], "label": [1, 2]}


def test_images_have_the_name_and_label_of_their_columns():
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    some = list(batch_records({"image": pixels, "id": np.array(["a", "b"])}))
    assert [(each.name, each.label, each.image.shape) for each in some] == [
        ("a", None, (4, 4, 3)),
        ("b", None, (4, 4, 3)),
    ]
    files = [{"bytes": b"jpeg", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    assert [each.image for each in batch_records({"image": files})] == [b"jpeg", "b.jpg"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([None, 2], [None, 2]),
        ([float("nan"), 2.0], [None, 2]),
        (np.array([np.nan, 2]), [None, 2]),
        (np.array(["", "tabby"]), [None, "tabby"]),
        (np.array([0, 2]), [0, 2]),
    ],
)
def test_a_label_that_is_missing_is_none_in_every_spelling(given, wanted):
    records = batch_records({"image": ["a.png", "b.png"], "label": given})
    assert [each.label for each in records] == wanted


def test_a_mapping_and_a_data_frame_have_columns_of_one_type_without_nulls():
    whole = with_columns(BATCH, COLUMNS)
    pandas = pytest.importorskip("pandas")
    frame = with_columns(pandas.DataFrame(BATCH, index=[5, 6]), COLUMNS)
    assert frame.index.tolist() == [5, 6]
    for batch in (whole, frame):
        assert list(batch) == list(WITHOUT_NULLS)
        for name, values in WITHOUT_NULLS.items():
            assert_array_equal(np.asarray(batch[name]).tolist(), values)
    assert (whole["label"].dtype, whole["area"].dtype) == (np.int64, np.float64)


def test_arrow_has_nulls_and_the_same_types_in_every_batch():
    arrow = pytest.importorskip("pyarrow")
    for kind in (arrow.Table, arrow.RecordBatch):
        batch = kind.from_pydict(BATCH)
        assert [each.image for each in batch_records(batch)] == [b"one\0", b"two"]
        one = with_columns(batch, COLUMNS)
        assert isinstance(one, kind)
        assert one.to_pydict() == {"id": [7, 8]} | {n: v for n, (_, v) in COLUMNS.items()}
        none = with_columns(batch, {name: (t, [None, None]) for name, (t, _) in COLUMNS.items()})
        assert none.schema == one.schema


@pytest.mark.parametrize("batch", [{"pixels": [1]}, {}, [1, 2], 3])
def test_what_has_no_images_is_refused(batch):
    with pytest.raises(InputError, match="with a column 'image'; got"):
        list(batch_records(batch))
