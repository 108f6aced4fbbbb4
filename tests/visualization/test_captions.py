from saliencykit.visualization.captions import caption


def test_unknown_numbers_are_left_out_of_the_caption() -> None:
    assert caption("tabby, tabby cat", 0.713, 0.5, 0.012, 0.2) == (
        "tabby: 71.3%, kept 50.0%, dropped 1.2%, area 20.0%"
    )
    assert caption("class 3") == "class 3"
