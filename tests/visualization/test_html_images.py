import base64
import io

from PIL import Image

from saliencykit.visualization.html_images import card, data_address, stored, stored_overlay


def test_an_address_holds_the_picture_reduced():
    address = data_address(Image.new("RGB", (1000, 500), (200, 30, 30)))
    assert address.startswith("data:image/jpeg;base64,")
    back = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    assert back.size == (320, 160)
    assert abs(back.getpixel((5, 5))[0] - 200) < 6


def test_a_card_is_escaped():
    picture = Image.new("RGB", (8, 8))
    shown = card("<m>", "a & b", picture, picture, picture)
    assert shown.count("<img") == 3
    assert "<m>" not in shown
    assert "a &amp; b" in shown
    assert card("m", "c", picture).count("<img") == 1


def test_what_is_not_there_or_damaged_is_none(tmp_path):
    assert stored(tmp_path / "none.png") is None
    (tmp_path / "bad.png").write_bytes(b"nothing")
    assert stored(tmp_path / "bad.png") is None


def test_the_overlay_dims_what_the_mask_leaves_out():
    mask = Image.new("L", (40, 40), 0)
    mask.paste(255, (20, 0, 40, 40))
    shown = stored_overlay(Image.new("RGB", (40, 40), (100, 200, 100)), mask)
    left, right = (
        shown.getpixel((shown.width // 8, shown.height // 2)),
        shown.getpixel((7 * shown.width // 8, shown.height // 2)),
    )
    assert sum(left) < 0.5 * sum(right)
    assert abs(right[1] - 200) <= 2
