"""What is said of a model's file that no installed plugin reads."""

import pytest

from saliencykit.black_boxes.unsupported_files import unsupported_model_hint
from saliencykit.core.errors import RegistryError
from saliencykit.registry.coerce import as_black_box
from saliencykit.registry.manager import Registry


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a/model.pt",
            "opens no pickles.*safetensors.torch.save_file.*checkpoint=weights.safetensors",
        ),
        ("MODEL.PTH", "checkpoint=weights.safetensors"),
        ("pipe.pkl", "saliencykit-sklearn"),
        ("net.keras", "tf2onnx"),
        ("here/net.py", "runs no code"),
        ("weights.safetensors", "timm:NAME,num_classes=N,checkpoint=FILE"),
    ],
)
def test_the_line_to_write_instead(text, words, monkeypatch):
    monkeypatch.setattr(Registry, "wrap", lambda self, model: None)  # as without plugins
    with pytest.raises(RegistryError, match=f"no plugin reads the model {text!r}: .*{words}"):
        as_black_box(text)


@pytest.mark.parametrize(
    ("text", "plugin"),
    [
        ("net.onnx", "onnx"),
        ("http://host:8000/v2/models/m", "http"),
        ("https://h/x", "http"),
        ("p.skops", "sklearn"),
    ],
)
def test_the_plugin_to_install(text, plugin):
    assert f"`pip install saliencykit-{plugin}`" in (unsupported_model_hint(text) or "")


@pytest.mark.parametrize("text", ["resnet18", "timm:resnet18", "vgg16.tv_in1k", "", "photos/"])
def test_what_is_no_file_of_a_model_gets_no_advice(text):
    assert unsupported_model_hint(text) is None


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("resnet18", "timm:resnet18"),
        ("resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("alexnet", "torchvision:alexnet"),
        ("google/vit-base-patch16-224", "transformers:google/vit-base-patch16-224"),
    ],
)
def test_a_name_without_its_library_is_answered_with_the_library(text, written):
    pytest.importorskip("timm")
    with pytest.raises(RegistryError, match=rf"unknown model '{text}'.*Write '{written}'\.$"):
        as_black_box(text)


def test_a_wrong_name_is_still_answered_with_the_known_ones():
    with pytest.raises(RegistryError, match=r"unknown model 'resnet'.*Known: saliencykit/demo"):
        as_black_box("resnet")
