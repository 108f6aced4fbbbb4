"""The black box: the same answers as torch's for every form of the file; and what it refuses."""

import copy
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from saliencykit_onnx.onnx_black_box import OnnxBlackBox
from torch import nn

from saliencykit import ContractError, GradientError, InputError, explain
from saliencykit.testing import Counting, check_black_box

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16
IMAGES = torch.rand(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", ["dynamic", "fixed", "channels_last"])
def test_the_answers_of_torch(kind, request, torch_black_box):
    black_box = OnnxBlackBox(request.getfixturevalue(kind), mean=MEAN, std=STD)
    assert black_box.num_classes == 4
    assert black_box.input_size == (SIDE, SIDE)
    assert black_box.baseline_color == MEAN
    assert repr(black_box).endswith(f"model.onnx', mean={MEAN}, std={STD})")
    assert torch.allclose(black_box(IMAGES), torch_black_box(IMAGES), atol=1e-5)
    assert torch.allclose(black_box(IMAGES[:1]), torch_black_box(IMAGES[:1]), atol=1e-5)


@pytest.mark.parametrize("kind", ["dynamic", "fixed", "channels_last"])
def test_contract(kind, request):
    check_black_box(OnnxBlackBox(request.getfixturevalue(kind), mean=MEAN, std=STD))
    check_black_box(OnnxBlackBox(request.getfixturevalue(kind), max_pixel_value=255))


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_the_map_of_torch_with_as_many_queries(kind, request, torch_black_box):
    counted = [
        Counting(torch_black_box),
        Counting(OnnxBlackBox(request.getfixturevalue(kind), mean=MEAN, std=STD)),
    ]
    ours, theirs = (
        explain(black_box, IMAGES[:2], 1, masker="rise:samples=100", seed=3)
        for black_box in counted
    )
    assert torch.allclose(
        ours.attributions, theirs.attributions, atol=1e-4 * float(ours.attributions.abs().max())
    )
    assert torch.allclose(ours.mask, theirs.mask, atol=1e-4)
    # is the first image's answer the same twice, the labels' answers, the masks, and of each
    # image what is kept, what is dropped and nothing of it
    wanted = 2 + 2 + 2 * 100 + 2 * 3
    assert counted[0].num_images == counted[1].num_images == wanted


def test_a_fixed_batch_is_filled_up_and_queried_in_multiples(fixed):
    class Recording:
        def __init__(self, path):
            self.inner, self.batches = session(path), []

        def get_inputs(self):
            return self.inner.get_inputs()

        def get_outputs(self):
            return self.inner.get_outputs()

        def run(self, outputs, feed):
            self.batches.append(len(feed["pixels"]))
            return self.inner.run(outputs, feed)

    recording = Recording(fixed)
    black_box = OnnxBlackBox(recording)
    assert black_box.max_batch_size == 30
    assert OnnxBlackBox(fixed, max_batch_size=2).max_batch_size == 3
    black_box(IMAGES)
    assert recording.batches == [3, 3, 3]
    assert torch.allclose(black_box(IMAGES[6:]), black_box(IMAGES)[6:], atol=1e-6)


def test_a_session_is_used_as_it_is(dynamic, torch_black_box):
    mine = session(dynamic)
    black_box = OnnxBlackBox(mine, mean=MEAN, std=STD)
    assert torch.allclose(black_box(IMAGES), torch_black_box(IMAGES), atol=1e-5)
    with pytest.raises(InputError, match="has its own providers"):
        OnnxBlackBox(mine, threads=2)
    with pytest.raises(InputError, match="got int"):
        OnnxBlackBox(3)


def test_session_options_and_providers(dynamic):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    black_box = OnnxBlackBox(dynamic, options=options, providers="CPUExecutionProvider")
    assert black_box.session.get_session_options().intra_op_num_threads == 2
    assert black_box.session.get_providers() == ["CPUExecutionProvider"]
    assert OnnxBlackBox(dynamic, threads=3).session.get_session_options().intra_op_num_threads == 3
    with pytest.raises(
        InputError, match=r"has no provider 'NoExecutionProvider'; it has .*CPUExecutionProvider"
    ):
        OnnxBlackBox(dynamic, providers=["NoExecutionProvider"])
    with pytest.raises(InputError, match="set threads in options"):
        OnnxBlackBox(dynamic, options=options, threads=2)


def test_half_precision(export, model, torch_black_box):
    path = export(copy.deepcopy(model).half(), dtype=torch.float16)
    black_box = OnnxBlackBox(path, mean=MEAN, std=STD)
    assert black_box(IMAGES).dtype == torch.float32
    assert torch.allclose(black_box(IMAGES), torch_black_box(IMAGES), atol=2e-2)
    assert black_box(IMAGES.double()).dtype == torch.float64


def test_bytes_and_0_to_255(export, model):
    class TakesBytes(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x.float() / 255)

    wanted = model((IMAGES * 255).round() / 255).detach()
    example = export(TakesBytes(model), dtype=torch.uint8)
    assert torch.allclose(OnnxBlackBox(example)(IMAGES), wanted, atol=1e-5)
    floats = export(TakesBytes(model))
    assert torch.allclose(
        OnnxBlackBox(floats, max_pixel_value=255)(IMAGES), model(IMAGES).detach(), atol=1e-5
    )


class Softmaxed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).softmax(1)


def test_probabilities(export, model, torch_black_box):
    path = export(Softmaxed(model))
    black_box = OnnxBlackBox(path, mean=MEAN, std=STD, probabilities=True)
    assert torch.allclose(
        black_box(IMAGES).softmax(1), torch_black_box(IMAGES).softmax(1), atol=1e-5
    )
    with pytest.warns(UserWarning, match="look like probabilities"):
        OnnxBlackBox(path, mean=MEAN, std=STD)(IMAGES)


def test_one_column_is_a_sigmoids(export, model):
    class One(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)[:, :1]

    black_box = OnnxBlackBox(export(One(model)))
    assert black_box.num_classes == 2
    assert torch.allclose(black_box(IMAGES)[:, 1], model(IMAGES)[:, 0] / 2, atol=1e-5)


def test_free_sizes(export, model):
    path = export(model, free=(0, 2, 3))
    black_box = OnnxBlackBox(path, mean=MEAN, std=STD)
    assert black_box(torch.rand(2, 3, 20, 12)).shape == (2, 4)
    with pytest.raises(InputError, match="write size=224"):
        black_box.prepare(Image.new("RGB", (30, 30)))
    assert OnnxBlackBox(path, mean=MEAN, std=STD, size=(20, 12)).prepare(
        Image.new("RGB", (30, 30))
    )[0].shape == (1, 3, 20, 12)


def test_which_output_is_meant(export, model):
    class Two(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            logits = self.model(x)
            return logits * 2, logits, logits.argmax(1)

    named = export(Two(model), outputs=("other", "logits", "winner"))
    assert torch.allclose(OnnxBlackBox(named)(IMAGES), model(IMAGES).detach(), atol=1e-5)
    assert torch.allclose(
        OnnxBlackBox(named, output_name="other")(IMAGES), 2 * model(IMAGES).detach(), atol=1e-5
    )
    with pytest.raises(InputError, match=r"has no output 'x'; it has other, logits, winner"):
        OnnxBlackBox(named, output_name="x")
    with pytest.raises(ContractError, match=r"returned torch\.int64"):
        OnnxBlackBox(named, output_name="winner")(IMAGES)
    unnamed = export(Two(model), outputs=("a", "b", "c"))
    with pytest.raises(InputError, match=r"outputs a, b, c: write output_name= with one of a, b"):
        OnnxBlackBox(unnamed)


def test_images_say_what_was_assumed(dynamic):
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    black_box = OnnxBlackBox(dynamic)
    with pytest.warns(UserWarning, match=r"images go in as RGB in \[0, 1\]"):
        images, geometry = black_box.prepare(image)
    assert images.shape == (1, 3, SIDE, SIDE)
    assert geometry.source_size == (20, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        black_box.prepare(image)  # once is enough
        OnnxBlackBox(dynamic, mean=0, std=1).prepare(image)
        OnnxBlackBox(dynamic, max_pixel_value=255).prepare(image)


def test_class_names(dynamic, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    black_box = OnnxBlackBox(dynamic, class_names=str(tmp_path / "names.txt"))
    assert black_box.class_names == ("a", "b", "c", "d")
    assert explain(black_box, IMAGES[:1], "c", masker="rise:samples=8").labels.tolist() == [2]
    with pytest.raises(InputError, match="has 4 classes, and 2 class_names"):
        OnnxBlackBox(dynamic, class_names=["a", "b"])


@pytest.mark.parametrize("masker", ["iterative", "gradient", "extremal-perturbation"])
def test_maskers_that_need_gradients_say_so(dynamic, masker):
    with pytest.raises(
        GradientError, match=r"needs gradients and OnnxBlackBox is query-only\. Use masker='rise'"
    ):
        explain(OnnxBlackBox(dynamic), IMAGES[:1], 0, masker=masker)


def test_files_that_are_no_model(tmp_path, dynamic):
    (tmp_path / "text.onnx").write_text("this is no model\n" * 50)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "half.onnx").write_bytes(dynamic.read_bytes()[:1000])
    (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    for name in ("text", "empty", "half", "noise"):
        with pytest.raises(
            InputError, match=rf"{name}\.onnx' cannot be opened as an ONNX model: .+"
        ) as raised:
            OnnxBlackBox(tmp_path / f"{name}.onnx")
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"there is no ONNX file 'nowhere\.onnx'"):
        OnnxBlackBox("nowhere.onnx")
    with pytest.raises(InputError, match="there is no ONNX file"):
        OnnxBlackBox(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "logits"}, "output='logits'.*'softmax' or 'sigmoid' or 'score'"),
        ({"max_batch_size": 0}, "max_batch_size=0.*>= 1"),
        ({"threads": 0}, "threads=0.*>= 1"),
        ({"mean": 0.5}, "mean and std must be given together"),
        ({"size": 24}, "size=24 was given and the model takes 16 x 16"),
        ({"input_name": "x"}, "has no input 'x'; it has pixels"),
        ({"layout": "CHW"}, "takes 'NCHW'"),
        ({"class_names": "nowhere.txt"}, "cannot read class names"),
    ],
)
def test_bad_options(dynamic, options, words):
    with pytest.raises(InputError, match=words):
        OnnxBlackBox(dynamic, **options)


def test_models_that_take_no_image(export, tmp_path):
    flat = export(nn.Linear(5, 3), shape=(2, 5))
    with pytest.raises(InputError, match=r"images have four axes"):
        OnnxBlackBox(flat)


def test_tensors_of_another_size(dynamic):
    with pytest.raises(InputError, match=r"takes \(channels, height, width\) \(3, 16, 16\)"):
        OnnxBlackBox(dynamic)(torch.rand(1, 3, 8, 8))
