import pytest
import torch
from saliencykit_zoo import provide_black_boxes, provide_maskers
from saliencykit_zoo.imagenet import CLASSIFIERS

from saliencykit import InputError, RealTimeMasker


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_missing_or_wrong_weights_are_named_in_the_error(name, tmp_path):
    from safetensors.torch import save_file

    make = provide_black_boxes()[name]
    with pytest.raises(InputError, match="there is no file"):
        make(tmp_path / "nothing.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="not a valid safetensors"):
        make(tmp_path / "half.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="other names"):
        make(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", sorted(provide_maskers()))
def test_the_maskers_load_and_passed_their_validation(name):
    factory = provide_maskers()[name]
    masker = factory()
    assert isinstance(masker, RealTimeMasker)
    assert masker.metadata["validation"]["passed"]
    assert masker.network.selector.num_classes == 1000


@pytest.mark.data
@pytest.mark.parametrize(("name", "stored"), [
    ("mobilenetv2", "mobilenet_v2"),
    ("squeezenet1-0", "squeezenet1_0"),
    ("mobilenetv1-100", "mobilenet_v1_100"),
    ("mobilenetv1-075", "mobilenet_v1_075"),
    ("efficientnet-lite0", "efficientnet_lite0"),
])  # fmt: skip
def test_each_masker_fits_its_classifier(name, stored, data_folder):
    path = data_folder / "weights" / f"{stored}_imagenet.safetensors"
    black_box = provide_black_boxes()[name](path)
    factory = provide_maskers()[name]
    assert factory.fits(black_box)
    size = black_box.input_size
    logits, mask = factory().for_black_box(black_box).predict(torch.rand(1, 3, *size))
    assert logits.shape == (1, 1000)
    assert mask.shape == (1, 1, *size)
