import base64
import io

from PIL import Image

from saliencykit.visualization.html_images import card, jpeg_data_url


def test_a_data_url_holds_the_reduced_image():
    address = jpeg_data_url(Image.new("RGB", (1000, 500), (200, 30, 30)))
    assert address.startswith("data:image/jpeg;base64,")
    back = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    assert back.size == (320, 160)
    assert abs(back.getpixel((5, 5))[0] - 200) < 6


def test_a_card_is_escaped():
    image = Image.new("RGB", (8, 8))
    shown = card("<m>", "a & b", image, image, image)
    assert shown.count("<img") == 3
    assert "<m>" not in shown
    assert "a &amp; b" in shown
    assert card("m", "c", image).count("<img") == 1
