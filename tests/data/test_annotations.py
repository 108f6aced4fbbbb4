import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.data.annotations import AnnotatedObject, annotated, read_annotations, xml_objects
from saliencykit.data.record import Record
from tests.data.conftest import DRAWN, voc_xml


@pytest.mark.parametrize("database", ["ILSVRC_2012", "The VOC2007 Database"])
def test_pixels_are_counted_from_0_or_from_1(tmp_path, database):
    (tmp_path / "a.xml").write_text(voc_xml(DRAWN[3], database))
    assert [thing.bbox for thing in xml_objects(tmp_path / "a.xml")] == DRAWN[3].boxes


def test_xml_beside_images_in_folders(tmp_path):
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "a.xml").write_text(voc_xml(DRAWN[0], "ILSVRC"))
    (tmp_path / "b.xml").write_text("<annotation><filename>b</filename></annotation>")
    look_up = read_annotations(tmp_path)
    assert look_up("n1/a.JPEG")[0].label == "red"
    assert look_up("n2/b.JPEG") == []
    assert look_up("c.JPEG") is None


@pytest.mark.parametrize(
    "text", ["", "<annotation>", "<a/>", "<annotation><object><name>x</name></object></annotation>"]
)
def test_what_is_no_annotation(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=r"a\.xml"):
        xml_objects(tmp_path / "a.xml")


def test_the_challenges_table(tmp_path, loc_solution):
    things = read_annotations(loc_solution)("val/image_03.JPEG")
    assert [thing.bbox for thing in things] == DRAWN[3].boxes
    assert read_annotations(loc_solution)("image_99.JPEG") is None
    loc_solution.write_text("ImageId,PredictionString\na,n1 1 2 3\n")
    with pytest.raises(InputError, match="line 2"):
        read_annotations(loc_solution)
    loc_solution.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no columns"):
        read_annotations(loc_solution)
    with pytest.raises(InputError, match="neither"):
        read_annotations(tmp_path / "none")


def test_only_objects_of_the_class_count(black_box):
    things = [
        AnnotatedObject("red", (0, 0, 2, 2)),
        AnnotatedObject("blue", (1, 1, 3, 3)),
        AnnotatedObject("unicorn", (0, 0, 9, 9)),
        AnnotatedObject("RED", (5, 5, 6, 6)),
    ]
    (entry,) = annotated(Record("a", "a.png", 0), things, black_box, None)
    assert entry.boxes.tolist() == [[0, 0, 2, 2], [5, 5, 6, 6]]
    (none,) = annotated(Record("a", "a.png", "green"), things, black_box, None)
    assert none.boxes.shape == (0, 4)


def test_a_image_without_a_label_is_queried_about_every_class_in_it(black_box):
    things = [
        AnnotatedObject("red", (0, 0, 2, 2)),
        AnnotatedObject("blue", (1, 1, 3, 3)),
        AnnotatedObject("red", (4, 4, 5, 5)),
    ]
    red, blue = annotated(Record("a", "a.png"), things, black_box, None)
    assert (red.name, red.label, len(red.boxes)) == ("a#red", "red", 2)
    assert (blue.name, blue.label, len(blue.boxes)) == ("a#blue", "blue", 1)
    (nothing,) = annotated(Record("a", "a.png"), None, black_box, None)
    assert torch.equal(nothing.boxes, torch.zeros(0, 4))
    assert nothing.label is None
