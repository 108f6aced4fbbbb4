from saliencykit.reports.page_parts import missing, open_image, settings


def test_an_image_that_is_missing_or_damaged_is_none(tmp_path):
    assert open_image(tmp_path / "none.png") is None
    (tmp_path / "bad.png").write_bytes(b"nothing")
    assert open_image(tmp_path / "bad.png") is None


def test_reasons_are_escaped_and_long_lists_of_names_shortened():
    (section,) = missing([("it is <damaged>", 7, ["<a>.png", "b.png"], "rise & cam")])
    assert "&lt;a&gt;.png, b.png and 5 more, by rise &amp; cam: it is &lt;damaged&gt;" in section
    assert list(missing([])) == []


def test_settings_that_are_unknown_or_empty_are_left_out():
    assert settings({"a": 1}, {"b": None, "c": ""}, {"d": []}).count("<dt>") == 1
