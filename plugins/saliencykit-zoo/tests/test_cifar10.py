"""The CIFAR-10 black box, by its public name and by its factory."""

import io
import json

import numpy as np
import pytest
import saliencykit_zoo.cifar10
import torch
from PIL import Image
from saliencykit_zoo.cifar10 import HERE, cifar10_fitnet

import saliencykit
from saliencykit.testing import check_black_box

WEIGHTS = HERE / "cifar10_fitnet.safetensors"
trained = pytest.mark.skipif(
    not WEIGHTS.exists(),
    reason=f"{WEIGHTS.name} is not made yet: recipes/cifar10_fitnet.py --export",
)


@trained
def test_it_passes_the_contract_of_a_black_box():
    check_black_box(cifar10_fitnet())


@trained
def test_it_is_explained_by_name():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8))
    answer = saliencykit.explain("zoo/cifar10-fitnet", image, "frog", masker="center-box")
    assert answer.mask.shape == (1, 1, 32, 32)
    assert answer.labels.tolist() == [6]


@trained
def test_tensors_of_any_size_are_accepted():
    assert cifar10_fitnet()(torch.rand(2, 3, 48, 64)).shape == (2, 10)


@trained
def test_the_file_is_small_and_the_card_has_its_accuracy():
    assert WEIGHTS.stat().st_size <= 2.6e6
    facts = json.loads((HERE / "cifar10_fitnet.json").read_text())
    assert len(facts["classes"]) == 10
    assert f"{100 * facts['top1']:.2f} %" in (HERE / "cifar10_fitnet.md").read_text()


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(saliencykit_zoo.cifar10, "HERE", tmp_path)
    with pytest.raises(
        saliencykit.SaliencyKitError,
        match=r"lacks the CIFAR-10 classifier.*reinstall saliencykit-zoo",
    ):
        cifar10_fitnet()


@trained
@pytest.mark.data
def test_the_figure_of_the_card_is_true(data_folder):
    """On 1,000 random test images; the card's figure is of all 10,000."""
    pack = dict(np.load(data_folder / "cifar10" / "test.npz"))
    heads = [pack["headers"][k, :n].tobytes() for k, n in enumerate(pack["header_len"])]
    black_box, right = cifar10_fitnet(), 0
    for part in np.array_split(np.random.default_rng(0).permutation(len(pack["labels"]))[:1000], 4):
        rows = []
        for i in part:
            raw = (
                heads[pack["header_id"][i]]
                + pack["body"][pack["offsets"][i] : pack["offsets"][i + 1]].tobytes()
            )
            rows.append(torch.from_numpy(np.array(Image.open(io.BytesIO(raw)).convert("RGB"))))
        with torch.no_grad():
            logits = black_box(torch.stack(rows).permute(0, 3, 1, 2).float() / 255)
        right += int((logits.argmax(1).numpy() == pack["labels"][part]).sum())
    assert abs(right / 1000 - json.loads((HERE / "cifar10_fitnet.json").read_text())["top1"]) < 0.03
