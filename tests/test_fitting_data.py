"""A user's own case, with real images: a classifier of 12 classes, 500 images without labels, a
CPU, minutes.

The classifier is the embedded one's trunk with a new head for 12 of Tiny-ImageNet's classes,
trained here on training images. The images for `fit` and for the checks are validation
images, which neither has seen.
"""

import copy
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.data import Pack
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.demo import demo_black_box
from saliencykit.registry.coerce import as_alternative
from saliencykit.training.absent_labels import other_labels
from saliencykit.training.fit_masker import fit
from saliencykit.training.validation import validate

pytestmark = [pytest.mark.slow, pytest.mark.data]

CLASSES = (3, 14, 24, 32, 52, 61, 70, 81, 105, 120, 146, 168)  # of the 200; any will do
MEAN, STD = (0.5,) * 3, (0.25,) * 3


def read(path):
    """The images of CLASSES in a pack: raw (N, 3, 64, 64) and 0..11 (N,), in a fixed random
    order.
    """
    pack = Pack(path)
    every = pack.labels.numpy()
    rows = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(every, CLASSES)))
    labels = np.array([CLASSES.index(label) for label in every[rows]])
    return pack.pixels(rows).float() / 255, torch.from_numpy(labels)


def classifier(images, labels):
    """The embedded classifier's trunk, and a head trained for these labels."""
    network = copy.deepcopy(demo_black_box().model)
    with torch.no_grad():
        seen = torch.cat(
            [network.forward_features((x - 0.5) / 0.25).mean((2, 3)) for x in images.split(100)]
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = torch.nn.Linear(seen.shape[1], len(CLASSES))
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05)
        for _ in range(600):
            rows = torch.randint(len(seen), (128,))
            optimizer.zero_grad()
            F.cross_entropy(head(seen[rows]), labels[rows]).backward()
            optimizer.step()
    network.head = head
    return TorchBlackBox(network.eval().requires_grad_(False), mean=MEAN, std=STD, size=64)


def masks(masker, black_box, images, labels):
    """Masks for labels, (N, h, w)."""
    return torch.cat(
        [
            masker.decode(masker.encode(black_box, x), y)
            for x, y in zip(images.split(50), labels.split(50), strict=True)
        ]
    )[:, 0]


def similarity(one, other):
    """Mean correlation of two sets of masks, image by image."""
    one, other = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (one, other))
    return float(F.cosine_similarity(one, other).mean())


@pytest.fixture(scope="module")
def case(data_folder):
    """The classifier, 500 images for `fit`, 100 for the checks with the classifier's own labels,
    and a masker.
    """
    images, labels = read(data_folder / "tiny-imagenet-200" / "train200.npz")
    black_box = classifier(images, labels)
    fresh, truth = read(data_folder / "tiny-imagenet-200" / "val.npz")
    with torch.no_grad():
        found = black_box(fresh).argmax(1)
    print(
        f"the classifier is right about {float((found == truth).float().mean()):.3f} of "
        f"{len(fresh)} validation images"
    )
    begin = time.perf_counter()
    masker = fit(black_box, fresh[:500])
    return black_box, fresh[:500], fresh[500:], found[500:], masker, time.perf_counter() - begin


def test_the_gate_passes_within_ten_minutes(case):
    black_box, _, images, labels, masker, seconds = case
    print(f"fit took {seconds:.0f} s: {masker.metadata['validation']}")
    assert seconds < 600
    assert masker.metadata["validation"]["passed"]
    gate = validate(masker.network, black_box, images, labels, alternative=as_alternative("choice"))
    print(f"fresh images: {gate}")
    assert gate.passed
    assert 0.1 < gate.area < 0.6
    assert gate.kept_at[-1] > gate.dropped_at[-1] + 0.3  # the better half of the pixels


def test_a_wrong_label_gives_a_much_smaller_mask(case):
    black_box, _, images, labels, masker, _ = case
    wrong = other_labels(labels, len(CLASSES), torch.Generator().manual_seed(0))
    right, wrong = (
        float(masks(masker, black_box, images, which).mean()) for which in (labels, wrong)
    )
    print(f"area for the predicted class {right:.3f}, for a random other one {wrong:.3f}")
    assert wrong < 0.25 * right


def test_masks_of_a_box_that_learned_shuffled_labels_are_others(case, data_folder):
    """The box's knowledge, not the images' outlines: retrained against a box of shuffled labels,
    the masks change far more than with another seed (Adebayo et al. 2018, "Sanity Checks for
    Saliency Maps", the data randomization test).
    """
    black_box, photos, images, labels, _, _ = case
    training, truth = read(data_folder / "tiny-imagenet-200" / "train200.npz")
    shuffled = classifier(
        training, truth[torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))]
    )
    with torch.no_grad():
        theirs = shuffled(images).argmax(1)
    with warnings.catch_warnings():
        # short trainings, and one with nothing to find: the gate may say so
        warnings.simplefilter("ignore")
        once, again, random = (
            fit(black_box, photos[:300], steps=60),
            fit(black_box, photos[:300], seed=1, steps=60),
            fit(shuffled, photos[:300], steps=60),
        )
    first = masks(once, black_box, images, labels)
    same = similarity(first, masks(again, black_box, images, labels))
    other = similarity(first, masks(random, shuffled, images, theirs))
    print(
        f"correlation of masks: between two seeds {same:.3f}, with those of a box that learned "
        f"shuffled labels {other:.3f}"
    )
    assert same > 0.8
    assert other < same - 0.3
