"""Learners, YOLO and exported programs: their own statistics, names and meaning of outputs."""

from pathlib import Path

import pytest
import torch

from saliencykit import explain
from saliencykit.black_boxes.library_models import wrap_library_model
from saliencykit.core.errors import InputError, SaliencyKitError
from tests.model_kinds import LikeFastai, LikeYolo, Net, Returning, image


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("CrossEntropyLossFlat", "softmax"),
        ("BCEWithLogitsLossFlat", "sigmoid"),
        ("MSELossFlat", "score"),
    ],
)
def test_the_loss_of_a_fastai_learner_says_what_an_output_means(loss: str, output: str) -> None:
    black_box = wrap_library_model(LikeFastai(loss))
    assert black_box.output == output
    assert (black_box.mean, black_box.std) == ((0.5,) * 3, (0.5,) * 3)
    assert black_box.input_size == (32, 32)
    assert black_box.class_names == ("cat", "dog", "cow")


def test_a_learner_without_normalization_takes_pixels_as_they_are() -> None:
    learner = LikeFastai()
    learner.dls.after_batch.fs, learner.dls.after_item.fs = [], []
    black_box = wrap_library_model(learner)
    assert (black_box.mean, black_box.std, black_box.size) == ((0.0,) * 3, (1.0,) * 3, None)


@pytest.mark.parametrize("old", [False, True])
def test_yolo_gives_logits_in_old_and_new_versions(old: bool) -> None:
    network = Returning(lambda z: z.softmax(1) if old else (z.softmax(1), z))
    black_box = wrap_library_model(LikeYolo(network=network)).without_preprocessing()
    wanted = network.net(image()).softmax(1)
    torch.testing.assert_close(black_box(image()).softmax(1), wanted)
    assert black_box.differentiable


def test_a_real_yolo_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    ultralytics = pytest.importorskip("ultralytics")
    yolo = ultralytics.YOLO("yolo11n-cls.yaml")
    for model in (yolo, yolo.model):
        answer = explain(model, torch.rand(1, 3, 64, 64), 3, masker="grad-cam", inputs="normalized")
        assert answer.label_names == ("3",)
    detector, x = ultralytics.YOLO("yolo11n.yaml"), torch.rand(1, 3, 64, 64)
    with pytest.raises(SaliencyKitError, match=r"answer\[0\]\[:, 4 \+ label\]"):
        explain(detector, x)
    answer = explain(detector, x, target=lambda out: out[0][:, 4 + 7].amax(1), masker="gradient")
    assert torch.isfinite(answer.mask).all()


def test_an_exported_program_is_queried_in_the_batches_it_was_exported_for() -> None:
    net = Net().eval()
    one = wrap_library_model(torch.export.export(net, (image(),)))
    assert one.max_batch_size == 1
    with torch.no_grad():
        torch.testing.assert_close(one(image().repeat(3, 1, 1, 1)), net(image()).repeat(3, 1))
    four = torch.export.export(net, (image().repeat(4, 1, 1, 1),))
    with pytest.raises(InputError, match=r"exactly 4 images; write torch.export.export"):
        wrap_library_model(four)


def test_other_objects_are_left_to_others() -> None:
    for thing in (Net(), len, object(), 3, "text"):
        assert wrap_library_model(thing) is None
