"""Calibrated masks: the promised frequency, files, and images that the promise is not about."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from saliencykit import InputError, ReliabilityWarning, TorchBlackBox, explain
from saliencykit.alternatives import Blur
from saliencykit.calibration import calibrate
from saliencykit.core import (
    BlackBoxWrapper,
    Images,
    Logits,
    MaskerOutput,
    probability,
    rng,
    run_trial,
)
from saliencykit.maskers import CenterBox
from saliencykit.maskers.certificate import AREAS
from saliencykit.maskers.certified import NO_GUARANTEE, Certified, nested_steps
from saliencykit.maskers.image_statistics import image_statistics
from saliencykit.registry.coerce import as_masker
from saliencykit.testing import Counting, PlantedEvidence

RISE = "rise:samples=64,estimate=mean"


def examples(count: int, seed: int) -> Tensor:
    """Images with evidence of varied strength: they need regions of varied size."""
    generator = Generator().manual_seed(seed)
    images, _ = PlantedEvidence().examples(count, generator=generator)
    contrast = 0.35 + 0.65 * torch.rand(count, 1, 1, 1, generator=generator)
    return 0.5 + (images - 0.5) * contrast


@pytest.fixture(scope="module")
def certified() -> Certified:
    return calibrate(PlantedEvidence(), RISE, examples(90, 0), keep=0.8, level=0.8)


@pytest.mark.slow  # tests/core/test_conformal.py: the bound that promises it
def test_regions_of_new_images_keep_the_decision_as_often_as_promised(
    certified: Certified,
) -> None:
    black_box, images = PlantedEvidence(), examples(150, 1)
    with torch.no_grad():
        logits = black_box(images)
    labels = logits.argmax(1)
    mask = certified(black_box, images, labels, generator=Generator().manual_seed(0))
    trial = run_trial(
        black_box, images, labels, mask, alternative=Blur(), generator=Generator().manual_seed(0)
    )
    whole, kept = (probability(x, labels, "softmax") for x in (logits, trial.preserved))
    frequency = (kept >= 0.8 * whole).float().mean().item()
    # of the calibration as well as of these images: two binomial errors
    assert frequency >= 0.8 - 3 * np.sqrt(0.8 * 0.2 * (1 / 60 + 1 / 150))
    assert mask.mean() < 0.9


def test_a_part_of_the_images_is_evenly_spaced() -> None:
    """The first ones are of one class, and the guarantee is for a mixture of classes."""
    seen: set[int] = set()

    class Watched(BlackBoxWrapper):
        def logits(self, images: Images) -> Logits:
            seen.update(rng.image_keys(images).tolist())
            return self.black_box(images)

    images, _ = PlantedEvidence().examples(40, generator=Generator().manual_seed(0))
    options = {"keep": 0.5, "level": 0.6, "max_images": 20}
    calibrate(Watched(PlantedEvidence()), "center-box", images, **options)
    keys = rng.image_keys(images).tolist()
    assert [i for i, key in enumerate(keys) if key in seen] == list(range(0, 40, 2))


def test_the_area_is_the_least_step_that_is_large_enough(certified: Certified) -> None:
    own = torch.tensor([0.05, 0.3, 0.9])
    chance = torch.tensor([0.99, 0.6, 0.3])
    places = certified.certificate.areas(own, chance)
    for row, place in enumerate(places.tolist()):
        inputs = [1.0, *(np.log(p / (1 - p)) for p in (own[row].item(), chance[row].item()))]
        odds = np.dot(certified.certificate.slope, inputs) + certified.certificate.margin
        wanted = 1 / (1 + np.exp(-odds))
        assert AREAS[place] == next(area for area in AREAS if area >= wanted - 1e-6)


def test_steps_are_nested_masks_and_the_last_one_is_the_whole_image() -> None:
    output = MaskerOutput(torch.rand(3, 1, 8, 8, generator=Generator().manual_seed(0)))
    masks = nested_steps(output, torch.tensor([0, 8, len(AREAS) - 1]))
    assert torch.equal(masks[1:2], output.nested((AREAS[8],))[1:2])
    assert (masks[2] == 1).all()
    assert masks.mean((1, 2, 3)).tolist() == pytest.approx([0.02, 0.25, 1.0], abs=0.01)


def test_the_whole_image_is_queried_once(certified: Certified) -> None:
    cheap, images = replace(certified, masker=CenterBox()), examples(3, 1)
    black_box = Counting(PlantedEvidence())
    masker, logits = cheap.predict_masker(black_box, images)
    labels, generator = logits.argmax(1), Generator().manual_seed(0)
    mask = masker(black_box, images, labels, generator=generator)
    assert black_box.batch_sizes == [3]
    assert torch.equal(mask, cheap(black_box, images, labels, generator=generator))
    assert black_box.batch_sizes == [3, 3]


def test_an_explanation_prints_the_guarantee(certified: Certified) -> None:
    explanation = explain(PlantedEvidence(), examples(2, 3), masker=certified)
    assert all(remark.startswith("certified: on 80%") for remark in explanation.remarks)
    assert "certified: on 80% of images like the 90 of the calibration" in repr(explanation)


def test_images_unlike_the_calibration_ones_have_no_guarantee(certified: Certified) -> None:
    black_box = PlantedEvidence()
    for shifted in (examples(3, 4) * 0.2, Blur(sigma=0.2).fill(examples(3, 4), Generator())):
        with pytest.warns(ReliabilityWarning, match="3 of 3 masks: no guarantee"):
            explanation = explain(black_box, shifted, masker=certified, verify=False)
        assert explanation.remarks == (NO_GUARANTEE,) * 3
    like = certified.certificate.unlike(*_with_logits(black_box, examples(200, 5)))
    assert like.float().mean() < 0.15


def test_other_classes_regions_and_models_have_no_guarantee(certified: Certified) -> None:
    black_box, image = PlantedEvidence(), examples(1, 3)
    with torch.no_grad():
        other = int(black_box(image).argmin(1))
    with pytest.warns(ReliabilityWarning, match="the calibration was for the top class"):
        explain(black_box, image, other, masker=certified, verify=False)
    regions = explain(black_box, image, masker=certified, regions=2, verify=False)
    assert not regions.remarks
    assert not explain(black_box, image, masker=certified, budget=0.1, verify=False).remarks
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4))
    another = TorchBlackBox(net, size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(InputError, match="certified for another model than"):
        explain(another, image, masker=certified)


def _with_logits(black_box: PlantedEvidence, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return images, black_box(images)


def test_a_method_with_its_certificate_is_a_file(certified: Certified, tmp_path: Path) -> None:
    path = certified.save(tmp_path / "certified.json")
    again = as_masker(str(path))
    assert isinstance(again, Certified)
    assert again.certificate == certified.certificate
    images, labels = examples(2, 6), torch.tensor([0, 1])
    masks = [
        one(PlantedEvidence(), images, labels, generator=Generator().manual_seed(0))
        for one in (certified, again)
    ]
    assert torch.equal(*masks)


def test_a_trained_masker_keeps_its_certificate_in_its_file(
    certified: Certified, tmp_path: Path
) -> None:
    from saliencykit.demo import demo_black_box

    demo = as_masker("demo").bound_to(demo_black_box())
    path = replace(certified, masker=demo).save(tmp_path / "masker.safetensors")
    again = as_masker(str(path))
    assert isinstance(again, Certified)
    assert again.certificate == certified.certificate


@pytest.mark.parametrize(
    "change", [{"keep": 2}, {"slope": [1]}, {"look": None}, {"sharpness": "x"}, {"margin": []}]
)
def test_a_damaged_certificate_is_one_line(
    certified: Certified, tmp_path: Path, change: dict[str, object]
) -> None:
    path = certified.save(tmp_path / "certified.json")
    read = json.loads(path.read_text())
    read["certificate"] |= change
    path.write_text(json.dumps(read))
    with pytest.raises(InputError, match=r"certified\.json is damaged"):
        as_masker(str(path))


def test_what_cannot_be_calibrated_is_refused() -> None:
    black_box = PlantedEvidence()
    with pytest.raises(InputError, match="takes a number in"):
        calibrate(black_box, RISE, examples(9, 0), keep=1.5)
    with pytest.raises(InputError, match=r"9 images that can be used; .* takes at least 15"):
        calibrate(black_box, RISE, examples(9, 0))
    with pytest.raises(InputError, match="no masker was trained"):
        calibrate(black_box, None, examples(9, 0))
    scores = TorchBlackBox(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 1)), size=8, output="score",
        mean=(0.0,) * 3, std=(1.0,) * 3,
    )  # fmt: skip
    with pytest.raises(InputError, match="the model gives scores"):
        calibrate(scores, "rise", examples(9, 0))


def test_a_masker_that_is_an_object_has_no_file(certified: Certified, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only if it was given to calibrate by name"):
        replace(certified, text=None).save(tmp_path / "x.json")


def test_image_statistics_equal_numpy() -> None:
    images = torch.rand(2, 3, 8, 12, generator=Generator().manual_seed(0))
    logits = torch.randn(2, 5, generator=Generator().manual_seed(1))
    for row, got in enumerate(image_statistics(images, logits).tolist()):
        image, answer = images[row].double().numpy(), logits[row].double().numpy()
        gray, gradients = image.mean(0), []
        for scale in (1, 2, 4):
            small = gray.reshape(8 // scale, scale, 12 // scale, scale).mean((1, 3))
            steps = [np.abs(np.diff(small, axis=axis)).mean() for axis in (0, 1)]
            gradients.append(np.log(np.mean(steps) + 1e-4))
        fine, middle, coarse = gradients
        expected = [fine - middle, middle - coarse, coarse]
        expected += [np.log(gray.std() + 1e-4), gray.mean(), image.std(0).mean()]
        best = np.sort(answer)[::-1]
        expected += [best[0] - best[1], np.log(np.exp(answer).sum())]
        assert got == pytest.approx(expected, rel=1e-6)
