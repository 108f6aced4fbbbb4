"""CLIP and its relatives: the logits are their own, the text side runs once."""

import pytest
import torch
from torch import nn

from saliencykit import explain
from saliencykit.black_boxes.zero_shot import ZeroShotClassifier, zero_shot_black_box
from saliencykit.core.errors import InputError
from tests.model_kinds import NAMES, _clip, _tokens

TEXTS = list(NAMES.values())


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_the_logits_are_those_of_the_model_of_transformers(kind: str) -> None:
    model = _clip(kind)
    images = torch.randn(3, 3, 32, 32)
    tokens = _tokens([f"a photo of a {name}" for name in TEXTS])
    with torch.no_grad():
        own = model(pixel_values=images, **tokens).logits_per_image
        black_box = zero_shot_black_box(model, TEXTS, _tokens)
        torch.testing.assert_close(black_box(images), own, rtol=1e-4, atol=1e-4)
    assert black_box.output == ("sigmoid" if kind == "Siglip" else "softmax")
    assert black_box.class_names == tuple(TEXTS)


def test_the_logits_are_those_of_the_model_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text).eval()
    model.visual.preprocess_cfg = {
        "size": 32,
        "mean": (0.4, 0.4, 0.4),
        "std": (0.2, 0.2, 0.2),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    images = torch.randn(3, 3, 32, 32)
    tokens = _tokens([f"a {name}." for name in TEXTS])["input_ids"]
    black_box = zero_shot_black_box(
        model, TEXTS, lambda texts: _tokens(texts)["input_ids"], prompt="a {}."
    )
    assert (black_box.mean, black_box.size, black_box.fit) == ((0.4, 0.4, 0.4), 32, "squash")
    with torch.no_grad():
        features, rows, scale = model(images, tokens)[:3]
        own = scale * features @ rows.T
        logits = black_box.without_preprocessing()(images)
    torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-4)


def test_the_model_comes_back_untouched_and_without_its_text_side_in_the_copy() -> None:
    model = _clip("CLIP")
    flags = [parameter.requires_grad for parameter in model.parameters()]
    black_box = zero_shot_black_box(model, TEXTS, _tokens)
    explain(black_box, torch.randn(1, 3, 32, 32), "cow", masker="iterative:steps=2,areas=(0.2,0.2)")
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("text" in name for name, _ in black_box.model.named_modules())


def test_what_is_missing_is_said() -> None:
    model = _clip("CLIP")
    with pytest.raises(InputError, match="needs texts: write zero_shot_black_box"):
        zero_shot_black_box(model, TEXTS)
    with pytest.raises(InputError, match="5 class_names and 2 embeddings"):
        zero_shot_black_box(model, TEXTS, embeddings=torch.eye(2, 16))
    with pytest.raises(InputError, match="neither get_text_features nor encode_text"):
        zero_shot_black_box(nn.Flatten(), TEXTS, _tokens)
    with pytest.raises(InputError, match=r"text embeddings \(K, D\)"):
        ZeroShotClassifier(nn.Flatten(), torch.rand(4))
    with pytest.raises(InputError, match="expected embeddings"):
        ZeroShotClassifier(nn.Identity(), torch.eye(3))(torch.rand(1, 3, 4, 4))
