import pytest

from saliencykit.core.errors import InputError
from saliencykit.data.tables import csv_entries, label_of, read_labels


def written(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    return tmp_path / "t.csv"


def test_columns_by_name(tmp_path):
    entries = csv_entries(
        written(tmp_path, "id,WNID,Path,boxes\n1,n01440764,a/b.png,1 2 3 4;5 6 7 8\n2,,/c.png,\n3,7,d.png,1 2 3\n")
    )
    assert [e.name for e in entries] == ["a/b.png", "/c.png", "d.png"]
    assert [e.label for e in entries][:2] == ["n01440764", None]
    assert entries[0].image == tmp_path / "a/b.png"
    assert entries[0].boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert entries[1].boxes.shape == (0, 4)
    assert "'1 2 3'" in entries[2].reason


def test_without_boxes_and_labels(tmp_path):
    (entry,) = csv_entries(written(tmp_path, "image\nx.png\n"))
    assert (entry.label, entry.boxes) == (None, None)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "path,label\n", ""])
def test_what_is_no_table(tmp_path, text):
    with pytest.raises(InputError, match=r"t\.csv"):
        csv_entries(written(tmp_path, text))


def test_labels(tmp_path):
    labels = read_labels(written(tmp_path, "path,label\nval/x.png,3\ny,cat\n"))
    assert label_of("val/x.png", labels) == "3"
    assert label_of("deep/y.jpg", labels) == "cat"
    assert label_of("z.jpg", labels) is None
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no labels"):
        read_labels(written(tmp_path, "path\nx\n"))
