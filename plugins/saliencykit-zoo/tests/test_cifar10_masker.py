"""The masker of the CIFAR-10 classifier: selected automatically, and as good as its card says."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from saliencykit_zoo.cifar10 import HERE, cifar10_fitnet

import saliencykit
from saliencykit.maskers import RealTimeMasker, TrainedFile
from saliencykit.testing import check_masker

FILE = HERE / "cifar10_fitnet_masker.safetensors"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason=f"{FILE.name} is not made yet: recipes/cifar10_maskers.py --export"
)


def test_it_fits_the_classifier_and_passes_the_contract():
    black_box = cifar10_fitnet()
    assert TrainedFile(FILE).fits(black_box)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    check_masker(RealTimeMasker.load(FILE, black_box), black_box=black_box, images=images)


def test_explain_selects_it_automatically():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8))
    answer = saliencykit.explain("zoo/cifar10-fitnet", image, "frog")
    assert answer.provenance["masker"].startswith("RealTimeMasker(")
    assert answer.mask.shape == (1, 1, 32, 32)


def test_it_passed_validation_and_the_file_is_small():
    facts = TrainedFile(FILE).metadata
    assert facts["validation"]["passed"]
    assert facts["training"]["own_labels"]
    assert FILE.stat().st_size < 4e6


@pytest.mark.data
def test_the_figures_of_the_card_are_true(data_folder):
    """On 300 random test images; the card's figures are of 1,000."""
    import io

    pack = dict(np.load(data_folder / "cifar10" / "test.npz"))
    heads = [pack["headers"][k, :n].tobytes() for k, n in enumerate(pack["header_len"])]
    rows = np.random.default_rng(0).permutation(len(pack["labels"]))[:300]
    files = [
        heads[pack["header_id"][i]]
        + pack["body"][pack["offsets"][i] : pack["offsets"][i + 1]].tobytes()
        for i in rows
    ]
    images = torch.from_numpy(
        np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    )
    images = images.permute(0, 3, 1, 2).float() / 255
    masker, generator = (
        RealTimeMasker.load(FILE, cifar10_fitnet()),
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        found = masker.black_box(images).argmax(1)
    other = (found + torch.randint(1, 10, found.shape, generator=generator)) % 10
    right, wrong = (
        masker.decode(masker.encode(masker.black_box, images), torch.stack([found, other], 1))
        .mean((0, 2, 3))
        .tolist()
    )
    card = (HERE / "cifar10_fitnet_masker.md").read_text()
    figures = re.search(
        r"mean mask (0\.\d+); the mask for a random other class has (0\.\d+)", card
    ).groups()
    area, share = map(float, figures)
    assert right == pytest.approx(area, abs=0.03)
    assert wrong / right == pytest.approx(share, abs=0.05)
