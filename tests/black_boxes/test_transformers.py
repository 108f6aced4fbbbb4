"""Image classifiers of Hugging Face: names, statistics, heads, processors; without a network."""

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit import explain
from saliencykit.black_boxes.score_targets import SegmentationClass
from saliencykit.black_boxes.transformers import transformers_black_box
from saliencykit.core.errors import ContractError, InputError
from saliencykit.registry.coerce import as_black_box
from saliencykit.testing import check_black_box

transformers = pytest.importorskip("transformers")

NAMES = {0: "cat", 1: "dog", 2: "cow"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny_vit(**options: object) -> torch.nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "image_size": 32, "patch_size": 8, "id2label": NAMES}
    label2id = {name: key for key, name in NAMES.items()}
    config = transformers.ViTConfig(**sizes, label2id=label2id, **options)
    return transformers.ViTForImageClassification(config).eval()


PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
SQUASH = {"size": {"height": 32, "width": 32}}
CROP = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
PROCESSORS = {
    "squashed": ("ViTImageProcessor", SQUASH),
    "other statistics": (
        "ViTImageProcessor",
        {**SQUASH, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.1], "resample": 3},
    ),
    "not normalized": ("ViTImageProcessor", {**SQUASH, "do_normalize": False}),
    "in 0..255": ("ViTImageProcessor", {**SQUASH, "do_normalize": False, "do_rescale": False}),
    "cropped, CLIP": ("CLIPImageProcessor", CROP),
    "cropped, DINOv2": ("BitImageProcessor", CROP),
    "cropped, ConvNeXt": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}),
    "squashed, ConvNeXt": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_an_image_is_prepared_as_its_processor_does(name: str) -> None:
    kind, options = PROCESSORS[name]
    processor = getattr(transformers, kind)(**options)
    black_box = transformers_black_box(tiny_vit(), processor)
    wanted = processor(Image.fromarray(PIXELS), return_tensors="pt")["pixel_values"].float()
    images, _ = black_box.prepare(Image.fromarray(PIXELS))
    normalized = black_box._normalize(images)
    assert normalized.shape == wanted.shape
    # torchvision's resizing, which processors use, differs from Pillow's by up to two of 255 levels
    step = float(wanted.max() - wanted.min()) / 255
    assert (normalized - wanted).abs().max() < 3 * step


def test_a_model_by_directory_brings_names_size_and_statistics(tmp_path) -> None:
    model = tiny_vit()
    model.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(**SQUASH, image_mean=[0.4] * 3, image_std=[0.2] * 3)
    processor.save_pretrained(tmp_path)
    black_box = as_black_box(f"transformers:{tmp_path}")
    assert black_box.class_names == ("cat", "dog", "cow")
    assert black_box.input_size == (32, 32)
    assert black_box.mean == pytest.approx((0.4,) * 3)
    assert black_box.assumed == ""
    check_black_box(black_box)
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    explanation = explain(black_box, tmp_path / "photo.png", "cow", masker="grad-cam")
    assert explanation.label_names == ("cow",)
    inputs = processor(Image.fromarray(PIXELS), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        own = model(inputs).logits
    torch.testing.assert_close(explanation.logits, own, rtol=0.02, atol=0.02)
    # the model as an object finds the processor beside its weights
    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    assert as_black_box(loaded).mean == pytest.approx((0.4,) * 3)
    options = "mean=(0.5,0.5,0.5),std=(0.25,0.25,0.25),size=64,output=sigmoid"
    black_box = as_black_box(f"transformers:{tmp_path},{options}")
    assert (black_box.input_size, black_box.output) == ((64, 64), "sigmoid")


@pytest.mark.parametrize(
    ("problem", "output"),
    [
        (None, "softmax"),
        ("single_label_classification", "softmax"),
        ("multi_label_classification", "sigmoid"),
        ("regression", "score"),
    ],
)
def test_the_problem_type_says_what_an_output_means(problem: str | None, output: str) -> None:
    assert as_black_box(tiny_vit(problem_type=problem)).output == output


def test_guessed_statistics_are_said_once_and_only_for_image_files() -> None:
    model = tiny_vit()
    black_box = as_black_box(model)
    assert "assumed=\"usual for 'vit'" in repr(black_box)
    black_box.without_preprocessing()(torch.rand(1, 3, 32, 32))
    with pytest.warns(UserWarning, match=r"mean=\(0.5, 0.5, 0.5\).*\(model, processor\)"):
        black_box.prepare(Image.fromarray(PIXELS))
    black_box.prepare(Image.fromarray(PIXELS))
    given = transformers_black_box(model, mean=(0.1,) * 3, std=(0.2,) * 3)
    assert given.assumed == ""
    given.prepare(Image.fromarray(PIXELS))


def test_weights_without_a_trained_head_are_refused(tmp_path) -> None:
    config = tiny_vit().config
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no weights for classifier.*zero_shot_black_box"):
        transformers_black_box(str(tmp_path))
    with pytest.raises(InputError, match="transformers could not load 'no/such-model'"):
        transformers_black_box("no/such-model")


def test_models_that_do_not_classify_images_are_refused_with_the_way_out() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    bert = transformers.BertConfig(**sizes, intermediate_size=16, vocab_size=50)
    with pytest.raises(InputError, match=r"does not take images alone.*FunctionBlackBox"):
        explain(transformers.BertForSequenceClassification(bert), torch.rand(1, 3, 8, 8))
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], depths=[1, 1, 1, 1]
    )
    segmentation, x = (
        transformers.SegformerForSemanticSegmentation(config),
        torch.rand(1, 3, 32, 32),
    )
    with pytest.raises(ContractError, match="SegmentationClass"):
        explain(segmentation, x)
    target = SegmentationClass(1)
    answer = explain(segmentation, x, target=target, masker="gradient")
    torch.testing.assert_close(answer.logits[0, 0], segmentation.eval()(x).logits[0, 1].mean())
    with pytest.raises(InputError, match="expected a tensor"):
        explain(transformers.ViTModel(tiny_vit().config), torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError, match="not an image classifier of transformers"):
        transformers_black_box(torch.nn.Flatten())


def test_channels_in_another_order_are_refused() -> None:
    processor = transformers.MobileViTImageProcessor()
    with pytest.raises(InputError, match=r"swaps the channels.*x.flip\(1\)"):
        transformers_black_box(tiny_vit(), processor)


def test_the_optimized_copy_of_a_model_with_an_object_as_output_agrees() -> None:
    black_box = as_black_box(tiny_vit()).without_preprocessing()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(black_box.optimized_for(images)(images), black_box(images))
    assert black_box.optimized_for(images).model is not black_box.model
