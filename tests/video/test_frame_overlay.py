import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from saliencykit import explain
from saliencykit.core.geometry import Geometry
from saliencykit.explanation.result import Explanation
from saliencykit.video.frame_overlay import draw_frame, mask_on_frame
from saliencykit.video.reader import Clip
from saliencykit.visualization import CONTOUR_COLOR
from tests.clips import pixels, write_clip


def answer(mask, size, region=None):
    """An explanation of an image of (width, height), whose input shows a region of it."""
    shape = tuple(mask.shape[-2:])
    place = Geometry(
        source_size=size[::-1],
        region=region or (0.0, 0.0, float(size[0]), float(size[1])),
        size=shape,
    )
    images = torch.zeros(1, 3, *shape)
    return Explanation(
        images, torch.tensor([0]), mask.view(1, 1, *shape), torch.zeros(1, 2), geometries=(place,)
    )


def drawn(clip, index, mask, region=None):
    frame = list(clip)[index]
    made = draw_frame(frame.origin, clip.info, answer(mask, clip.info.size, region))
    return frame, made.to_ndarray(format="rgb24").astype(np.float32)


@pytest.mark.parametrize("rotation", [0, 90, 180])
def test_a_mask_of_ones_changes_nothing(rotation, tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mp4", rotation=rotation))
    frame, shown = drawn(clip, 4, torch.ones(8, 8))
    assert np.abs(shown - np.asarray(frame.image)).max() <= 3


def test_a_mask_of_zeros_dims_to_gray_and_has_no_line(tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mp4"))
    frame, shown = drawn(clip, 4, torch.zeros(8, 8))
    image = np.asarray(frame.image, np.float32)
    assert shown.mean() == pytest.approx(0.28 * image.mean(), rel=0.15)
    assert np.ptp(shown, axis=2).mean() < 0.2 * np.ptp(image, axis=2).mean()


@pytest.mark.parametrize("form", ["yuv444p", "bgr0"])
def test_an_odd_frame_is_padded_and_not_shifted(form, tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mkv", size=(33, 25), codec="ffv1", form=form))
    _, shown = drawn(clip, 4, torch.ones(8, 8))
    assert shown.shape == (26, 34, 3)
    assert np.abs(shown[:25, :33].mean(2) - pixels(4, (33, 25)).mean(2)).mean() < 12
    assert (np.abs(shown[25] - shown[24]) <= 3).all()


def test_it_looks_like_the_overlay_of_the_report(tmp_path):
    size = (640, 480)
    clip = Clip(write_clip(tmp_path / "a.mkv", count=1, size=size, codec="ffv1", form="yuv444p"))
    coarse = torch.zeros(1, 1, 7, 7)
    coarse[..., 2:5, 1:4] = 1
    mask = torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")[0, 0]
    frame, shown = drawn(clip, 0, mask)
    said = answer(mask, size)
    said = dataclasses.replace(said, source_images=(frame.image,))
    wanted = np.asarray(said.overlay(), np.float32)
    assert wanted.shape == shown.shape
    difference = np.abs(shown - wanted).mean(2)
    assert np.median(difference) < 8
    assert difference.mean() < 12
    orange, wanted_orange = (
        np.abs(x - np.array(CONTOUR_COLOR)).max(2) < 40 for x in (shown, wanted)
    )
    assert orange.sum() == pytest.approx(wanted_orange.sum(), rel=0.3)


@pytest.mark.parametrize(
    "region",
    [
        (0.0, 0.0, 40.0, 30.0),
        (5.0, 0.0, 35.0, 30.0),
        (5.5, 2.25, 30.3, 27.0),
        (-6.0, -4.0, 44.0, 33.0),
    ],
)
def test_the_mask_lies_where_the_geometry_says(region, generator):
    coarse = torch.rand(1, 1, 4, 4, generator=generator)
    mask = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")[0, 0]
    said = answer(mask, (40, 30), region)
    wanted = said.to_source()[0][0, 0].numpy()
    got = mask_on_frame(said, (40, 30)) / 255
    x0, y0, x1, y1 = (round(v) for v in region)
    inside = np.zeros_like(wanted, bool)
    inside[max(0, y0 + 1) : y1 - 1, max(0, x0 + 1) : x1 - 1] = True
    assert np.abs(got - wanted)[inside].max() < 0.05
    outside = wanted == 0
    outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
    assert not got[outside].any()


def test_frames_without_a_place_get_the_mask_over_all_of_it(black_box):
    said = explain(black_box, torch.rand(1, 3, 16, 16), 0, masker="center-box")
    gray = mask_on_frame(said, (32, 16))
    assert gray.shape == (16, 32)
    assert gray[8, 16] > 200


def test_a_faint_mask_has_no_outline(tmp_path):
    clip = Clip(write_clip(tmp_path / "a.mp4"))
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 0.09
    assert np.array_equal(drawn(clip, 4, mask)[1] > 250, np.zeros((24, 32, 3), bool))
