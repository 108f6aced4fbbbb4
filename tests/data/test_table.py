import pytest

from saliencykit.core.errors import InputError
from saliencykit.data.table import label_of, read_labels, read_table


def written(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    return tmp_path / "t.csv"


def test_columns_by_name(tmp_path):
    entries = read_table(
        written(
            tmp_path,
            "id,WNID,Path,boxes\n1,n01440764,a/b.png,1 2 3 4;5 6 7 8\n2,,/c.png,\n3,7,d.png,1 2 "
            "3\n",
        )
    )
    assert [e.name for e in entries] == ["a/b.png", "/c.png", "d.png"]
    assert [e.label for e in entries][:2] == ["n01440764", None]
    assert entries[0].image == tmp_path / "a/b.png"
    assert entries[0].boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert entries[1].boxes.shape == (0, 4)
    assert "'1 2 3'" in entries[2].failure


def test_without_boxes_and_labels(tmp_path):
    (entry,) = read_table(written(tmp_path, "image\nx.png\n"))
    assert (entry.label, entry.boxes) == (None, None)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "path,label\n", ""])
def test_what_is_no_table(tmp_path, text):
    with pytest.raises(InputError, match=r"t\.csv"):
        read_table(written(tmp_path, text))


def test_labels(tmp_path):
    labels = read_labels(written(tmp_path, "path,label\nval/x.png,3\ny,cat\n"))
    assert label_of("val/x.png", labels) == "3"
    assert label_of("deep/y.jpg", labels) == "cat"
    assert label_of("z.jpg", labels) is None
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no labels"):
        read_labels(written(tmp_path, "path\nx\n"))


def test_two_labels_for_one_image_are_not_chosen_between(tmp_path):
    assert read_labels(written(tmp_path, "path,label\nx.png,3\nx.png,3\n")) == {"x.png": "3"}
    with pytest.raises(
        InputError, match=r"t\.csv' has two labels for x\.png, 3 and 4; list each image once"
    ):
        read_labels(written(tmp_path, "path,label\nx.png,3\nx.png,4\n"))


@pytest.mark.parametrize("boxes", ["nan 0 1 1", "0 0 inf 1", "5 5 2 9", "5 5 9 5", "0 0 1 1;1 2 3"])
def test_boxes_that_are_none_are_a_reason_and_no_image_without_a_box(tmp_path, boxes):
    (entry,) = read_table(written(tmp_path, f"path,boxes\nx.png,{boxes}\n"))
    assert f"{boxes!r}; expected" in entry.failure


def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "latin.csv").write_bytes("path,label\nx.png,caf\xe9\n".encode("latin-1"))
    for read in (read_table, read_labels):
        with pytest.raises(InputError, match=r"latin\.csv' is not a CSV file in UTF-8"):
            read(tmp_path / "latin.csv")
    with pytest.raises(InputError, match=r"none\.csv' cannot be read: No such file"):
        read_table(tmp_path / "none.csv")
