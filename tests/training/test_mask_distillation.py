import math

import numpy as np
import pytest
import torch

from saliencykit.maskers.cam.cam import Cam
from saliencykit.training import loop as loops
from saliencykit.training import mask_distillation
from saliencykit.training.mask_targets import MaskTargets, small_windows, soft_masks
from tests.training.test_loop import loop, run_until, same, weights

pytest.importorskip("accelerate")
OPTIONS = {"side": 32, "mixing_steps": 2, "distill_steps": 6, "pixel_steps": 2}


def test_soft_masks_are_half_where_the_pixels_with_seventy_percent_of_the_sum_end():
    maps = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    for map_, soft in zip(maps.numpy(), soft_masks(maps).numpy(), strict=True):
        ranked = np.sort(map_.ravel())[::-1]
        threshold = next(ranked[n] for n in range(36) if ranked[: n + 1].sum() >= 0.7 * map_.sum())
        assert np.allclose(soft, 1 / (1 + np.exp(-4 * (map_ / threshold - 1))), atol=1e-5)
    assert soft_masks(torch.zeros(1, 1, 4, 4)).max() < 0.02


def test_small_masks_get_a_window_around_them_that_stays_in_the_image():
    masks = torch.zeros(4, 1, 28, 28)
    masks[0, 0, 10:14, 8:18] = 0.9  # small, inside
    masks[1, 0, :3, 26:] = 0.9  # in a corner: the window has its least side
    masks[2, 0, :, 1:27] = 0.9  # large
    masks[3, 0, [0, -1], [0, -1]] = 0.9  # small, but spread over the whole image
    rows, windows = small_windows(masks, (56, 56))
    assert rows.tolist() == [0, 1]
    (x0, y0, x1, y1), corner = windows.tolist()
    assert (x0, x1) == (13, 39)  # 20 pixels and 30 %
    assert (y0 + y1) / 2 == pytest.approx(24, abs=0.5)
    assert y1 - y0 == pytest.approx(0.3 * 56, abs=1)
    assert corner == [39, 0, 56, 17]


@pytest.mark.parametrize("helps", [True, False])
def test_targets_of_small_masks_are_made_in_windows_if_these_help(
    trunk_black_box, monkeypatch, helps
):
    def corner(maker, features, labels):
        masks = torch.zeros(len(labels), 1, *maker.network.decoder.side)
        masks[:, :, :2, :2] = 1
        return masks

    monkeypatch.setattr(MaskTargets, "_own", corner)
    monkeypatch.setattr(mask_distillation, "_windows_help", lambda *_: helps)
    one = loop(trunk_black_box(), side=32, distill_steps=4, pixel_steps=1)
    assert one._can_distill()
    targets = one.distillation.targets[one.distillation.candidates].float()
    edge = math.ceil(0.3 * targets.shape[3]) + 1
    assert targets[..., :edge, :edge].amax((1, 2, 3)).mean() > 0.3
    assert (targets[..., edge:, :].max() == targets[..., edge:].max() == 0) == helps


def test_the_log_says_which_teacher_was_chosen_and_whether_its_masks_were_kept(trunk_black_box):
    steps, lines = [], []
    one = loop(trunk_black_box(), **OPTIONS, on_step=steps.append)
    one.on_message = lines.append
    one.run(resume=False)
    learned = [step for step in steps if step.phase == "distillation"]
    assert len(learned) == 6
    assert all(math.isfinite(step.loss) for step in learned)
    assert all(0 <= step.fake_area <= 1 and 0 <= step.area <= 1 for step in learned)
    assert set(one.distilled["scores"]) == {"excitation-backprop", "universal", "cam"}
    assert isinstance(one.distilled["kept"], bool)
    assert one.distilled["teacher"] in lines[0]
    assert one.distilled["windows"] == lines[1].endswith("yes")
    assert "validation" in lines[-1]


@pytest.mark.slow
def test_the_decoder_comes_closer_to_its_teacher(trunk_black_box):
    one = loop(trunk_black_box(), side=32, count=32, distill_steps=60, pixel_steps=1)
    assert one._can_distill()
    losses = [one._step(number).loss for number in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("score", [9.0, -9.0])
def test_masks_that_validate_worse_are_not_kept(trunk_black_box, score):
    one = loop(trunk_black_box(), **OPTIONS)
    one.before = weights(one.network)
    with torch.no_grad():
        one.network.decoder.last.bias.add_(0.1)
    after = weights(one.network)
    one.distilled = {"score before": score}
    report = type("Report", (), {"score": 0.5, "passed": True, "as_dict": lambda self: {}})()
    one._validate = lambda: report
    one._keep_the_better()
    assert same(weights(one.network), one.before if score > 0 else after)


def test_a_model_that_no_teacher_works_with_trains_without_distillation(
    trunk_black_box, monkeypatch
):
    monkeypatch.setattr(loops, "distillation", lambda *_: None)
    steps = []
    loop(trunk_black_box(), **OPTIONS, on_step=steps.append).run(resume=False)
    assert [step.phase for step in steps] == ["feature-mixing"] * 2 + ["pixels"] * 2


@pytest.mark.parametrize("killed", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_and_resumed_it_ends_with_the_same_weights(
    trunk_black_box, tmp_path, monkeypatch, killed
):
    monkeypatch.setattr(mask_distillation, "_teachers", lambda side: {"cam": Cam()})  # the fastest
    whole = loop(trunk_black_box(), **OPTIONS)
    whole.run(resume=False)
    options = OPTIONS | {"save_every": 1, "directory": tmp_path}
    run_until(killed, black_box=trunk_black_box(), **options)
    again = loop(trunk_black_box(), **options)
    again.run(resume=True)
    assert same(weights(whole.network), weights(again.network))
    assert again.distilled == whole.distilled
