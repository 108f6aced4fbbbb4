import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit import RealTimeMasker, explain, explain_frames
from saliencykit.core.errors import GradientError, InputError, RegistryError
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.video.frame import Frame


@pytest.fixture
def clip(black_box, generator):
    """Ten frames that hold evidence of class 2."""
    return black_box.examples(12, generator=generator)[0][2::4].repeat(4, 1, 1, 1)[:10]


@pytest.fixture
def masker(black_box, examples):
    return RealTimeMasker(masking_network(black_box, examples[0])).bind(black_box)


def frames_of(answers):
    return [answer.provenance["frame"] for answer in answers]


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_each_frame_is_answered_in_order_and_as_on_its_own(batch, prefetch, black_box, clip):
    answers = list(
        explain_frames(
            black_box, clip, 1, "rise:samples=16", smoothing=0, batch_size=batch, prefetch=prefetch
        )
    )
    assert frames_of(answers) == list(range(10))
    alone = explain(black_box, clip[4], 1, masker="rise:samples=16", verify=False)
    assert torch.allclose(answers[4].mask, alone.mask, atol=1e-5)
    assert torch.allclose(answers[4].logits, alone.logits, atol=1e-5)
    assert answers[4].labels.tolist() == [1]
    assert answers[4].preserved is None


def test_a_trained_masker_gives_what_explain_gives(black_box, clip, masker):
    answers = list(explain_frames(black_box, clip, 2, masker, smoothing=0, batch_size=4))
    wanted = explain(black_box, clip, 2, masker=masker, verify=False)
    assert torch.allclose(torch.cat([a.mask for a in answers]), wanted.mask, atol=1e-5)
    assert torch.allclose(torch.cat([a.logits for a in answers]), wanted.logits, atol=1e-5)


def test_the_check_is_of_the_smoothed_mask(black_box, clip, masker):
    answers = list(
        explain_frames(
            black_box, clip, 2, masker, smoothing=0.8, verify=True, alternative="constant"
        )
    )
    assert all(0 <= float(a.kept) <= 1 and 0 <= float(a.dropped) <= 1 for a in answers)
    mask, image = answers[7].mask, answers[7].images
    from saliencykit.core.objective import run_trial
    from saliencykit.registry.coerce import as_alternative

    g = torch.Generator().manual_seed(0)
    trial = run_trial(
        black_box,
        image,
        torch.tensor([2]),
        mask,
        alternative=as_alternative("constant").for_black_box(black_box),
        generator=g,
    )
    assert torch.allclose(trial.preserved, answers[7].preserved, atol=1e-4)


def test_smoothing_calms_masks_and_batches_do_not_matter(black_box, clip, generator):
    # its draws depend on the image, so that noise in the image is noise in the mask
    rise = "rise:samples=16"
    noisy = (
        clip[:1].repeat(12, 1, 1, 1) + 0.004 * torch.randn(12, 3, 16, 16, generator=generator)
    ).clamp(0, 1)
    masks = [
        torch.cat(
            [
                a.mask
                for a in explain_frames(
                    black_box, noisy, 2, rise, smoothing=share, batch_size=batch
                )
            ]
        )
        for share, batch in ((0.0, 8), (0.7, 8), (0.7, 5))
    ]
    flicker = [m.diff(dim=0).abs().mean() for m in masks]
    assert flicker[1] < 0.5 * flicker[0]
    assert torch.allclose(masks[1], masks[2], atol=1e-4)


def test_the_first_frames_class_is_kept_and_a_followed_one_changes_at_a_cut(black_box, generator):
    shots = torch.cat(
        [
            black_box.examples(4, generator=generator)[0][label : label + 1].repeat(4, 1, 1, 1)
            for label in (0, 3)
        ]
    )
    tops = black_box(shots).argmax(1).tolist()
    assert tops == [0] * 4 + [3] * 4
    kept = [int(a.labels) for a in explain_frames(black_box, shots, masker="center-box")]
    assert kept == [0] * 8
    followed = list(explain_frames(black_box, shots, "follow", "center-box"))
    assert followed[0].provenance["cut"]
    assert int(followed[-1].labels) in (0, 3)
    assert [int(a.labels) for a in followed[:4]] == [0] * 4


def test_images_arrays_and_frames_are_taken_as_explain_takes_them():
    from saliencykit.demo import demo_black_box

    black_box = demo_black_box()
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    kinds = [
        image,
        np.asarray(image),
        torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1),
        Frame(image, 1.5, 9),
    ]
    answers = list(explain_frames(black_box, kinds, 3, "center-box"))
    assert frames_of(answers) == [0, 1, 2, 9]
    assert [a.provenance["time"] for a in answers] == [None, None, None, 1.5]
    assert all(torch.equal(a.images, answers[0].images) for a in answers)
    assert answers[0].source_images[0].size == (40, 30)
    assert answers[0].overlay().size[0] > 0


def test_frames_of_other_sizes_go_through_in_order(black_box):
    frames = [torch.rand(3, side, 16) for side in (16, 16, 20, 20, 16)]
    answers = list(explain_frames(black_box, frames, 0, "center-box"))
    assert [a.mask.shape[2] for a in answers] == [16, 16, 20, 20, 16]
    assert [a.provenance["cut"] for a in answers] == [True,
        *[a.provenance["cut"] for a in answers[1:2]], True, *[
        a.provenance["cut"] for a in answers[3:4]
    ], True]  # fmt: skip


def test_an_endless_camera_is_read_no_further_than_a_few_batches_ahead(black_box):
    read = []

    def camera():
        for index in itertools.count():
            read.append(index)
            yield torch.rand(3, 16, 16)

    answers = explain_frames(black_box, camera(), 0, "center-box", batch_size=2, prefetch=1)
    for _ in range(6):
        next(answers)
    answers.close()
    assert len(read) <= 6 + 2 * 6
    assert not [t for t in threading.enumerate() if t.name.startswith("saliencykit")]


def test_without_threads_a_frame_is_read_when_its_answer_is_wanted(black_box):
    read = []
    camera = (read.append(i) or torch.rand(3, 16, 16) for i in itertools.count())
    answers = explain_frames(black_box, camera, 0, "center-box", batch_size=1, prefetch=0)
    assert read == []
    next(answers)
    assert read == [0]
    next(answers)
    assert read == [0, 1]


def test_frames_are_left_out_for_a_lower_rate(black_box):
    clip = [Frame(torch.rand(3, 16, 16), time=i / 30, index=i) for i in range(12)]
    assert frames_of(explain_frames(black_box, clip, 0, "center-box", fps=10)) == [0, 3, 6, 9]


def test_the_file_of_a_clip_is_frames_too(tmp_path):
    pytest.importorskip("av")
    from saliencykit.demo import demo_black_box
    from tests.clips import write_clip

    answers = list(explain_frames(demo_black_box(), write_clip(tmp_path / "a.mp4", count=4), 3))
    assert [a.provenance["time"] for a in answers] == [0.0, 0.1, 0.2, 0.3]
    assert answers[0].source_images[0].size == (32, 24)
    assert "RealTimeMasker" in answers[0].provenance["masker"]


def test_a_bad_frame_is_named_after_the_answers_before_it(black_box):
    frames = [torch.rand(3, 16, 16), torch.rand(3, 16, 16), torch.full((3, 16, 16), float("nan"))]
    answers = explain_frames(black_box, frames, 0, "center-box", batch_size=1)
    assert frames_of([next(answers), next(answers)]) == [0, 1]
    with pytest.raises(InputError, match=r"frame 2: .*NaN"):
        next(answers)


def test_what_a_camera_raises_comes_through(black_box):
    def camera():
        yield torch.rand(3, 16, 16)
        raise ConnectionError("the camera is gone")

    answers = explain_frames(black_box, camera(), 0, "center-box", batch_size=1)
    next(answers)
    with pytest.raises(ConnectionError, match="the camera is gone"):
        next(answers)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"fps": 0}, InputError, "fps=0"),
        ({"smoothing": 1.0}, InputError, "smoothing=1.0"),
        ({"smoothing": True}, InputError, "smoothing=True"),
        ({"batch_size": 0}, InputError, "batch_size=0"),
        ({"prefetch": -1}, InputError, "prefetch=-1"),
        ({"seed": -1}, InputError, "seed=-1"),
        ({"label": 1.5}, InputError, "1.5 is not a class"),
        ({"label": "cat"}, InputError, "no class is called"),
        ({"masker": "rize"}, RegistryError, "rise"),
    ],
)
def test_arguments_are_checked_before_a_frame_is_read(options, error, words, black_box):
    def untouched():
        raise AssertionError("read")
        yield

    with pytest.raises(error, match=words):
        explain_frames(black_box, untouched(), **({"masker": "center-box"} | options))


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        ([torch.rand(2, 3, 16, 16)], {}, "frame 0 contains 2 images"),
        ([torch.rand(3, 16, 16)], {"fps": 5}, "has no time"),
        ([torch.rand(3, 16, 16)], {"label": 99}, "99"),
        (7, {}, "iterable of images"),
    ],
)
def test_frames_that_do_not_fit_are_one_line(frames, options, words, black_box):
    with pytest.raises(InputError, match=words):
        list(explain_frames(black_box, frames, masker="center-box", **options))


def test_gradients_are_not_queried_of_a_box_that_has_none():
    from saliencykit import FunctionBlackBox

    black_box = FunctionBlackBox(lambda x: np.full((len(x), 4), 0.25), num_classes=4)
    with pytest.raises(GradientError):
        list(explain_frames(black_box, [torch.rand(3, 16, 16)], masker="iterative"))


def test_without_a_trained_masker_it_warns_and_goes_on(black_box):
    with pytest.warns(UserWarning, match="no masker is trained for this model"):
        answers = explain_frames(black_box, [torch.rand(3, 16, 16)])
    answers.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(explain_frames(black_box, [torch.rand(3, 16, 16)], masker="center-box"))


def test_a_bare_module_is_queried_in_its_own_space():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    answers = list(explain_frames(net, torch.randn(3, 3, 12, 12), masker="center-box"))
    assert {a.provenance["inputs"] for a in answers} == {"normalized"}
    assert torch.allclose(answers[1].logits, net(answers[1].images), atol=1e-5)
