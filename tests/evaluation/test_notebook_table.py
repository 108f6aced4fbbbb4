import re

import pytest

from saliencykit.evaluation.notebook_table import scores_html
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores

SETTINGS = {
    "maskers": {"<a>": "", "b": ""},
    "metrics": {"y": {"higher_is_better": True}, "x": {"higher_is_better": False}},
}


@pytest.fixture
def scores():
    rows = []
    for i in range(4):
        rows.append(
            Row(
                sample=str(i),
                index=i,
                masker="<a>",
                scores={"y/one": 0.5, "y/two": 0.1, "x": float(i)},
                seconds=0.512,
            )
        )
        rows.append(Row(sample=str(i), index=i, masker="b", scores={"y/one": 0.75}))
    rows[-1] = Row(sample="3", index=3, masker="b", failure="broken & <gone>")
    return Scores(tuple(rows), SETTINGS)


def test_the_table_has_means_intervals_and_failures(scores):
    page = scores._repr_html_()
    assert page == scores_html(scores)
    cells = [
        re.findall(r"<t[hd]>(.*?)</t[hd]>", line)
        for line in page.splitlines()
        if "<td>" in line or "<th>" in line
    ]
    # the first score of each metric
    assert cells[0] == [
        "method",
        "y/<wbr>one ↑",
        "x ↓",
        "seconds",
    ]
    cells[1:] = [[re.sub(r"</?div[^>]*>", "", cell) for cell in row] for row in cells[1:]]
    assert cells[1][:2] == ["&lt;a&gt;", "0.5<br><small>0.5 … 0.5</small>"]
    assert cells[1][2].startswith("<b>1.5</b><br><small>")
    assert cells[1][3] == "0.5"
    assert cells[2] == ["b", "<b>0.75</b><br><small>0.75 … 0.75 (n 3)</small>", "–", "–"]  # noqa: RUF001
    assert "Mean over 4 images" in page
    assert "<li>1 by b: broken &amp; &lt;gone&gt;</li>" in page


def test_one_image_has_no_interval():
    page = scores_html(Scores((Row(sample="0", index=0, masker="a", scores={"y": 1.0}),), SETTINGS))
    assert "Mean over 1 image," in page
    assert "<td><b>1</b></td>" in page
    assert "Missing" not in page
