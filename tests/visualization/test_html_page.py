import pytest

from saliencykit.core.errors import SaliencyKitError
from saliencykit.visualization.html_page import definitions, document, number, table, write_page


def test_a_page_is_well_formed_and_escaped(addresses):
    page = document(
        "a <b> & c", [table(["x", "y"], [["1", "2"]]), definitions([("<name>", "<i>value</i>")])]
    )
    assert addresses(page) == []
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert "&lt;i&gt;value" in page
    assert "prefers-color-scheme:dark" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_numbers_have_three_significant_digits():
    assert [number(v) for v in (0.0, 0.12345, -1234.5, 0.00001, float("nan"))] == [
        "0",
        "0.123",
        "-1234",
        "1.0e-05",
        "\N{EN DASH}",
    ]


def test_a_page_is_written_with_its_directory_or_refused_with_the_reason(tmp_path):
    assert (
        write_page(tmp_path / "new" / "é.html", "<p>é</p>").read_text(encoding="utf-8")
        == "<p>é</p>"
    )
    with pytest.raises(
        SaliencyKitError, match=r"new cannot be written: Is a directory. Choose another file.$"
    ):
        write_page(tmp_path / "new", "")
