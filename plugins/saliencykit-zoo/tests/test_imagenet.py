import pytest
import torch
from saliencykit_zoo import provide_maskers
from saliencykit_zoo.imagenet import (
    efficientnet_lite0,
    mobilenetv1_075,
    mobilenetv1_100,
    mobilenetv2,
    squeezenet1_0,
)

from saliencykit import InputError, RealTimeMasker

FACTORIES = [mobilenetv2, squeezenet1_0, mobilenetv1_100, mobilenetv1_075, efficientnet_lite0]


@pytest.mark.parametrize("make", FACTORIES)
def test_missing_or_wrong_weights_are_named_in_the_error(make, tmp_path):
    from safetensors.torch import save_file

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
@pytest.mark.parametrize(("make", "stored", "name"), [
    (mobilenetv2, "mobilenet_v2_imagenet", "mobilenetv2"),
    (squeezenet1_0, "squeezenet1_0_imagenet", "squeezenet1-0"),
    (mobilenetv1_100, "mobilenet_v1_100_imagenet", "mobilenetv1-100"),
    (mobilenetv1_075, "mobilenet_v1_075_imagenet", "mobilenetv1-075"),
    (efficientnet_lite0, "efficientnet_lite0_imagenet", "efficientnet-lite0"),
])  # fmt: skip
def test_each_masker_fits_its_classifier(make, stored, name, data_folder):
    black_box = make(data_folder / "weights" / f"{stored}.safetensors")
    factory = provide_maskers()[name]
    assert factory.fits(black_box)
    size = black_box.input_size
    logits, mask = factory().for_black_box(black_box).predict(torch.rand(1, 3, *size))
    assert logits.shape == (1, 1000)
    assert mask.shape == (1, 1, *size)
