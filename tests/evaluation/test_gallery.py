import numpy as np
import torch
from PIL import Image

from saliencykit.alternatives.constant import Constant
from saliencykit.evaluation.gallery import Gallery


def test_an_image_and_its_mask_are_four_files(tmp_path):
    image, mask = torch.rand(1, 3, 6, 8), torch.zeros(1, 1, 6, 8)
    mask[..., 4:] = 1
    Gallery(tmp_path, Constant(color=0.0), 0, 8, {"m": "m"}).add(image, mask, 7, "m")
    pixels = (image[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / "7.png")), pixels)
    gray = Image.open(tmp_path / "masks" / "m" / "7.png")
    assert gray.mode == "L"
    assert np.array_equal(np.asarray(gray), mask[0, 0].numpy() * 255)
    kept, dropped = (
        np.asarray(Image.open(tmp_path / side / "m" / "7.png")) for side in ("kept", "dropped")
    )
    assert np.array_equal(kept[:, 4:], pixels[:, 4:])
    assert not kept[:, :4].any()
    assert np.array_equal(dropped[:, :4], pixels[:, :4])


def test_a_gray_image_is_saved_in_rgb_and_its_mask_in_gray(tmp_path):
    Gallery(tmp_path, Constant(), 0, 1, {"m": "m"}).add(
        torch.rand(1, 1, 6, 6), torch.ones(1, 1, 6, 6), 0, "m"
    )
    for file, mode in (("images/0.png", "RGB"), ("masks/m/0.png", "L")):
        with Image.open(tmp_path / file) as shown:
            assert shown.mode == mode
