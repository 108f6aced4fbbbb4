import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saliencykit.core.geometry import Geometry, enlarge_boxes, tight_boxes
from saliencykit.testing.strategies import images, masks

# name: image (H, W), region (x0, y0, x1, y1), size (h, w)
CASES = {
    "center crop of a landscape": Geometry((60, 100), (20.0, 0.0, 80.0, 60.0), (24, 24)),
    "crop share 0.875 of a portrait": Geometry((128, 64), (4.0, 36.0, 60.0, 92.0), (28, 28)),
    "squashed": Geometry((40, 90), (0.0, 0.0, 90.0, 40.0), (20, 20)),
    "enlarged, not square": Geometry((20, 30), (0.0, 0.0, 30.0, 20.0), (48, 36)),
    "padded above and below": Geometry((30, 60), (0.0, -15.0, 60.0, 45.0), (32, 32)),
    "fractions of pixels": Geometry((47, 61), (7.25, 0.0, 54.25, 47.0), (32, 32)),
}


@pytest.mark.parametrize("case", CASES)
def test_to_source_puts_every_pixel_back_where_pil_took_it_from(case):
    geometry = CASES[case]
    (height, width), (x0, y0, x1, y1) = geometry.source_size, geometry.region
    ys, xs = np.mgrid[:height, :width] + 0.5  # each pixel of the image knows its own center
    room = (max(x0, 0), max(y0, 0), min(x1, width), min(y1, height))
    h, w = geometry.size
    part = (round(h * (room[3] - room[1]) / (y1 - y0)), round(w * (room[2] - room[0]) / (x1 - x0)))
    back = []
    for coordinate in (xs, ys):
        piece = Image.fromarray(coordinate.astype("float32")).resize(
            part[::-1], Image.Resampling.BILINEAR, box=room
        )
        seen = np.zeros(geometry.size, dtype="float32")
        top, left = (h - part[0]) // 2 if y0 < 0 else 0, (w - part[1]) // 2 if x0 < 0 else 0
        seen[top : top + part[0], left : left + part[1]] = np.asarray(piece)
        back.append(geometry.to_source(torch.from_numpy(seen)[None, None])[0, 0].numpy())
    margin = 2 * max((x1 - x0) / w, (y1 - y0) / h) + 1  # bilinear filters blend over the edge there
    sure = (
        (xs > room[0] + margin)
        & (xs < room[2] - margin)
        & (ys > room[1] + margin)
        & (ys < room[3] - margin)
    )
    assert sure.mean() > 0.2
    np.testing.assert_allclose(back[0][sure], xs[sure], atol=0.05)
    np.testing.assert_allclose(back[1][sure], ys[sure], atol=0.05)


@pytest.mark.parametrize("case", CASES)
def test_to_source_is_0_exactly_where_the_input_does_not_reach(case):
    geometry = CASES[case]
    (height, width), (x0, y0, x1, y1) = geometry.source_size, geometry.region
    back = geometry.to_source(torch.ones(1, 1, *geometry.size))[0, 0].numpy()
    ys, xs = np.mgrid[:height, :width] + 0.5
    inside = (xs >= x0) & (xs <= x1) & (ys >= y0) & (ys <= y1)
    assert not back[~inside].any()
    np.testing.assert_allclose(back[inside], 1, atol=1e-6)


def test_to_source_of_several_maps_of_any_size():
    geometry = CASES["squashed"]
    maps = torch.rand(2, 3, 5, 9, generator=torch.Generator().manual_seed(0))
    back = geometry.to_source(maps)
    assert back.shape == (2, 3, 40, 90)
    assert torch.equal(back[1:], geometry.to_source(maps[1:]))


def test_bounding_boxes_match_numbers_computed_by_hand():
    # 2 pixels per row, 4 per column
    geometry = Geometry((100, 200), (50.0, 0.0, 150.0, 100.0), (50, 25))
    inside = torch.tensor([[5.0, 10.0, 10.0, 20.0]])
    assert geometry.bbox_to_source(inside).tolist() == [[70.0, 20.0, 90.0, 40.0]]
    assert (
        geometry.bbox_from_source(torch.tensor([[70.0, 20.0, 90.0, 40.0]])).tolist()
        == inside.tolist()
    )


def test_boxes_are_clipped_on_both_sides():
    geometry = CASES["center crop of a landscape"]
    assert geometry.bbox_from_source(torch.tensor([[0.0, 0.0, 100.0, 60.0]])).tolist() == [
        [0.0, 0.0, 24.0, 24.0]
    ]
    padded = CASES["padded above and below"]
    assert padded.bbox_to_source(torch.tensor([[0.0, 0.0, 32.0, 32.0]])).tolist() == [
        [0.0, 0.0, 60.0, 30.0]
    ]


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_bounding_boxes_survive_a_round_trip(case, data):
    geometry = CASES[case]
    h, w = geometry.size
    x0, x1 = sorted((data.draw(st.floats(0, w)), data.draw(st.floats(0, w))))
    y0, y1 = sorted((data.draw(st.floats(0, h)), data.draw(st.floats(0, h))))
    black_box = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float64)
    there = geometry.bbox_to_source(black_box)
    if case != "padded above and below":
        assert (geometry.bbox_from_source(there) - black_box).abs().max() < 1e-9
    assert geometry.bbox_to_source(torch.empty(0, 4)).shape == (0, 4)


@given(masks())
def test_tight_boxes_match_a_loop_over_pixels(mask):
    for (x0, y0, x1, y1), row in zip(
        tight_boxes(mask >= 0.5).tolist(), mask.numpy()[:, 0] >= 0.5, strict=True
    ):
        inside = [(y, x) for y in range(row.shape[0]) for x in range(row.shape[1]) if row[y, x]]
        if not inside:
            assert (x0, y0, x1, y1) == (0, 0, row.shape[1], row.shape[0])
            continue
        assert (y0, y1) == (min(y for y, _ in inside), max(y for y, _ in inside) + 1)
        assert (x0, x1) == (min(x for _, x in inside), max(x for _, x in inside) + 1)


@given(images(batch=2))
def test_enlarging_the_whole_image_changes_nothing(x):
    whole = torch.tensor([[0, 0, x.shape[3], x.shape[2]]] * 2)
    assert torch.allclose(enlarge_boxes(x, whole), x, atol=1e-12)


def test_enlarged_boxes_match_a_loop_over_images():
    x = torch.rand(1, 1, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    crop = x[0, 0, 2:5, 1:5].numpy()
    large = np.zeros((8, 6))
    for i in range(8):
        for j in range(6):
            y, z = np.clip((i + 0.5) * 3 / 8 - 0.5, 0, 2), np.clip((j + 0.5) * 4 / 6 - 0.5, 0, 3)
            a, b = min(int(y), 1), min(int(z), 2)
            top = crop[a, b] * (1 - (z - b)) + crop[a, b + 1] * (z - b)
            low = crop[a + 1, b] * (1 - (z - b)) + crop[a + 1, b + 1] * (z - b)
            large[i, j] = top * (1 - (y - a)) + low * (y - a)
    np.testing.assert_allclose(
        enlarge_boxes(x, torch.tensor([[1, 2, 5, 5]]))[0, 0].numpy(), large, atol=1e-12
    )
