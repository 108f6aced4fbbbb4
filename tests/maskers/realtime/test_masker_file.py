import errno
import json
import math
import os
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.maskers.realtime.encoder import Encoder, StandaloneEncoder
from saliencykit.maskers.realtime.masker_file import read_metadata
from saliencykit.maskers.realtime.masking_network import MaskingNetwork, masking_network
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.maskers.realtime.trained_file import TrainedFile
from saliencykit.testing.black_boxes import PlantedEvidence
from tests.helpers import seeded

NAMES = ("convolutional", "squeezed", "channels-last", "class-token", "flattened")
KEY = "saliencykit-masker"


def masker_for(black_box, images, **options):
    network = masking_network(black_box, images, **options)
    with torch.no_grad():
        network.decoder.last.weight.copy_(
            0.3 * torch.randn(network.decoder.last.weight.shape, generator=seeded(3))
        )
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.05)
        network.selector.log_scale.fill_(1.0)
    return RealTimeMasker(
        network=network,
        confidence=0.25,
        metadata={"training": {"steps": 3}, "validation": {"mosaic": math.nan}},
    )


@pytest.fixture
def saved(net, photos, tmp_path):
    """A black box, the file of a masker made for it, and images."""
    black_box, images = net("convolutional"), photos(4)
    return (
        black_box,
        masker_for(black_box, images).bind(black_box).save(tmp_path / "new" / "masker.safetensors"),
        images,
    )


def rewritten(path, change_header=None, change_weights=None):
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[KEY])
    tensors = load_file(path)
    for change, thing in ((change_header, header), (change_weights, tensors)):
        if change:
            change(thing)
    save_file(tensors, path, metadata={KEY: json.dumps(header)})
    return path


# save and load


@pytest.mark.parametrize("name", [*NAMES, "own", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_loaded_masker_equals_the_saved_one(net, photos, tmp_path, name):
    if name in NAMES:
        black_box, images, options = net(name), photos(4), {}
    else:
        black_box, size = PlantedEvidence(), 16 if name == "own" else 64
        images, _ = black_box.examples(4, generator=seeded(), size=size)
        if name == "paper":
            pytest.importorskip("timm")
        options = (
            {"encoder": "own"}
            if name == "own"
            else {"encoder": PretrainedEncoder("timm:test_resnet,pretrained=false", (64, 64))}
        )
    masker = masker_for(black_box, images, **options).bind(black_box)
    path = tmp_path / "masker.safetensors"
    assert masker.save(str(path)) == path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = RealTimeMasker.load(str(path), black_box)
        bound = RealTimeMasker.load(str(path)).bind(black_box)
    assert repr(again) == repr(masker)
    assert again.confidence == 0.25
    assert again.metadata["training"] == {"steps": 3}
    assert math.isnan(again.metadata["validation"]["mosaic"])
    labels = torch.tensor([0, 1, 2, 3])
    one, other = masker.predict(images, labels), again.predict(images, labels)
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert (one[1] - other[1]).abs().max() < 0.02, "weights are stored in half precision"
    assert torch.equal(bound.predict(images, labels)[1], other[1])


def test_weights_of_the_classifier_are_not_stored(saved):
    _, path, _ = saved
    weights = load_file(path)
    assert not [
        name
        for name in weights
        if name.startswith("encoder.") or name in ("selector.weight", "selector.bias")
    ]
    assert path.stat().st_size < 200_000


def test_a_loaded_masker_saves_the_same_file(saved, tmp_path):
    black_box, path, _ = saved
    again = RealTimeMasker.load(path, black_box).save(tmp_path / "again.safetensors")
    one, other = load_file(path), load_file(again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert str(read_metadata(path)) == str(read_metadata(again))


def test_a_masker_loaded_without_a_black_box_is_bound_later(saved):
    black_box, path, images = saved
    masker = RealTimeMasker.load(path)
    with pytest.raises(InputError, match="not bound"):
        masker.predict(images)
    for_black_box = masker.for_black_box(black_box)
    assert (
        for_black_box.predict(images)[1] - RealTimeMasker.load(path, black_box).predict(images)[1]
    ).abs().max() < 1e-6


# which model it fits


def test_other_weights_are_warned_about(saved, net):
    _, path, images = saved
    with pytest.warns(
        UserWarning, match=r"trained for another model .* Train a masker for it with fit"
    ):
        masker = RealTimeMasker.load(path, net("convolutional", seed=1))
    assert torch.isfinite(masker.predict(images)[1]).all()


def test_another_architecture_is_refused_by_name(saved, net):
    _, path, _ = saved
    with (
        pytest.warns(UserWarning, match="another model"),
        pytest.raises(InputError, match=r"no layer 'fc'|made for"),
    ):
        RealTimeMasker.load(path, net("squeezed"))


def test_a_trained_file_knows_which_weights_it_fits(saved, net):
    black_box, path, _ = saved
    file = TrainedFile(path)
    assert file.fits(black_box)
    assert file.fits(net("convolutional"))
    assert not file.fits(net("convolutional", seed=1))
    assert not file.fits(net("channels-last"))
    assert not file.fits(PlantedEvidence())
    assert isinstance(file(), RealTimeMasker)


def test_a_trained_file_of_a_black_box_without_a_module_fits_nothing(tmp_path):
    black_box = PlantedEvidence()
    path = (
        masker_for(black_box, black_box.examples(2, generator=seeded())[0])
        .bind(black_box)
        .save(tmp_path / "masker.safetensors")
    )
    assert not TrainedFile(path).fits(black_box)


# files that are not a masker's


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"there is no file .*nowhere.safetensors.*saliencykit fit --output"
    ):
        RealTimeMasker.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_a_damaged_file_is_refused(saved, content):
    _, path, _ = saved
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match="is not a valid safetensors file"):
        RealTimeMasker.load(path)


def test_weights_of_a_classifier_are_refused(tmp_path):
    path = tmp_path / "resnet.safetensors"
    save_file({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(InputError, match=r"does not contain a saliencykit masker.* checkpoint="):
        RealTimeMasker.load(path)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_an_unknown_format_is_refused(saved, number):
    _, path, _ = saved
    rewritten(path, lambda header: header.update(format=number))
    with pytest.raises(
        InputError, match=rf"has format {number} and this version of saliencykit reads 1"
    ):
        RealTimeMasker.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("encoder"),
        lambda header: header.pop("selector"),
        lambda header: header["encoder"].update(kind="big"),
        lambda header: header["decoder"].update(kind="big"),
        lambda header: header["decoder"].update(widths=[3, 3]),
        lambda header: header["encoder"]["feature_maps"][0].pop("name"),
        lambda header: header["selector"].update(channels="many"),
        lambda header: header.pop("metadata"),
        lambda header: header.pop("confidence"),
    ],
)
def test_a_damaged_header_is_refused(saved, change):
    _, path, _ = saved
    rewritten(path, change)
    with pytest.raises(InputError, match="is damaged"):
        RealTimeMasker.load(path)


def test_a_header_that_is_not_json_is_refused(saved):
    _, path, _ = saved
    save_file(load_file(path), path, metadata={KEY: "{"})
    with pytest.raises(InputError, match=r"the header of .* is damaged"):
        RealTimeMasker.load(path)


def test_missing_or_unexpected_weights_are_named(saved):
    _, path, _ = saved
    rewritten(path, change_weights=lambda tensors: tensors.pop("decoder.last.weight"))
    with pytest.raises(InputError, match=r"1 missing \(decoder.last.weight\)"):
        RealTimeMasker.load(path)
    rewritten(path, change_weights=lambda tensors: tensors.update({"decoder.more": torch.zeros(1)}))
    with pytest.raises(InputError, match="damaged"):
        RealTimeMasker.load(path)


# writing


@pytest.mark.parametrize("broken", ["replace", "open"])
def test_a_full_disk_leaves_the_old_file_unchanged(saved, monkeypatch, broken):
    black_box, path, _ = saved
    before = path.read_bytes()
    masker = RealTimeMasker.load(path, black_box)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        *((os, "replace") if broken == "replace" else (type(path), "write_bytes")), full
    )
    with pytest.raises(SaliencyKitError, match="cannot be written: No space left"):
        masker.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_path_inside_a_file_is_refused(saved):
    black_box, path, _ = saved
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        RealTimeMasker.load(path, black_box).save(path / "masker.safetensors")


def test_custom_parts_cannot_be_saved(tmp_path):
    class Other(Encoder):
        kind, channels, sides, trained = "other", (6, 8), ((16, 16), (8, 8)), False

        def encode(self, black_box, images):
            raise NotImplementedError

        def options(self):
            return {}

    black_box = PlantedEvidence()
    network = masking_network(
        black_box,
        black_box.examples(2, generator=seeded())[0],
        encoder=StandaloneEncoder((6, 8), 1, size=(16, 16)),
    )
    changed = MaskingNetwork(Other(), network.selector, network.decoder)
    with pytest.raises(InputError, match="got Other, ClassFilters, UNet"):
        RealTimeMasker(network=changed).save(tmp_path / "masker.safetensors")
