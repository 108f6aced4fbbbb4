from html.parser import HTMLParser

from saliencykit.page.document import document, facts, number, table

VOID = {"meta", "img", "br", "wbr"}


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_well_formed_and_escaped():
    page = document("a <b> & c", [table(["x", "y"], [["1", "2"]]), facts([("<name>", "<i>value</i>")])])
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert "&lt;i&gt;value" in page
    assert "prefers-color-scheme:dark" in page
    assert "<script" not in page
    assert "http" not in page


def test_numbers_have_three_digits():
    assert [number(v) for v in (0.0, 0.12345, -1234.5, 0.00001, float("nan"))] == ["0", "0.123", "-1234", "1.0e-05", "–"]  # noqa: RUF001
