import warnings

import pytest
import torch
from torch import nn

from saliencykit import OnSurrogate, Surrogate, explain, fit, fit_surrogate
from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.surrogate_network import SurrogateNetwork
from saliencykit.core.errors import ContractError, GradientError, InputError, ReliabilityWarning
from saliencykit.testing.black_boxes import Broken, Counting, PlantedEvidence, QueryOnly, iou
from saliencykit.testing.unchanged import untouched
from tests.helpers import seeded

GRAY = "constant:color=0.5"


def photos(count=40):
    return PlantedEvidence().examples(count, generator=seeded())[0]


def small(black_box=None, images=None, **options):
    """A few steps."""
    black_box = QueryOnly(PlantedEvidence()) if black_box is None else black_box
    images = photos() if images is None else images
    return fit_surrogate(
        black_box,
        images,
        **({"queries": 60, "steps": 4, "batch_size": 16, "alternative": GRAY} | options),
    )


def weights(surrogate):
    return list(surrogate.module.state_dict().values())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.fixture(scope="module")
def planted():
    """A surrogate of planted evidence that has learned, and the box that counted."""
    black_box = Counting(QueryOnly(PlantedEvidence()))
    network = SurrogateNetwork(4, (16, 16), widths=(16, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # and no word about disagreement
        made = fit_surrogate(
            black_box,
            photos(200),
            network=network,
            queries=1500,
            steps=220,
            lr=5e-3,
            alternative=GRAY,
        )
    return made, black_box


@pytest.mark.slow
def test_it_agrees_with_a_box_that_is_only_queried(planted):
    surrogate, black_box = planted
    figures = surrogate.metadata["fidelity"]
    assert list(figures) == ["whole", "10% kept", "25% kept", "50% kept", "75% kept", "all"]
    assert figures["whole"]["agreement"]["mean"] > 0.97
    assert figures["all"]["agreement"]["mean"] > 0.9
    assert figures["all"]["difference"]["mean"] < 0.06
    assert figures["all"]["kl"]["mean"] < 0.05
    assert figures["all"]["n"] == surrogate.metadata["held_out"] == 40
    assert surrogate.metadata["low_fidelity"] is False
    assert "mean difference of 0.15" in surrogate.metadata["rule"]
    # once more on masked images that nobody has seen, drawn here: one half is gray
    images, _ = PlantedEvidence().examples(100, generator=seeded(9))
    images[:50, :, :, :8], images[50:, :, :8] = 0.5, 0.5
    with torch.no_grad():
        mine, theirs = surrogate(images).softmax(1), black_box.black_box(images).softmax(1)
    best = theirs.gather(1, mine.argmax(1, keepdim=True))[:, 0]
    assert (best > theirs.amax(1) - 0.05).float().mean() > 0.9
    assert (mine - theirs).abs().mean() < 0.05


@pytest.mark.slow
def test_not_one_query_more_than_allowed(planted):
    surrogate, black_box = planted
    assert black_box.num_images == surrogate.metadata["queries"] == 1500


@pytest.mark.parametrize("queries", [50, 61, 130])
def test_the_budget_is_spent_and_not_exceeded(queries):
    black_box = Counting(QueryOnly(PlantedEvidence(max_batch_size=7)))
    assert small(black_box, queries=queries).metadata["queries"] == queries
    assert black_box.num_images == queries
    assert max(black_box.batch_sizes) <= 7


def test_a_function_that_has_not_answered_yet_is_not_queried_in_between():
    queried = []

    def service(images):
        queried.append(len(images))
        return images.mean((1, 2)) / images.mean((1, 2)).sum(1, keepdims=True)

    made = small(
        FunctionBlackBox(service, size=16, class_names=["red", "green", "blue"]), queries=50
    )
    assert sum(queried) == 50
    assert made.num_classes == 3
    assert made.class_names == ["red", "green", "blue"]
    assert made.preprocessing.fit == "squash"
    labelled = [(image, 77) for image in photos(10)]  # labels that are nobody's
    small(FunctionBlackBox(service, size=16), labelled, queries=50)
    assert sum(queried) == 100


def test_the_same_seed_gives_the_same_surrogate_and_nothing_else_changes():
    black_box, mine = (
        PlantedEvidence(),
        nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 4)),
    )
    with untouched("fit_surrogate", mine):
        one, two, other = (
            small(QueryOnly(black_box), network=mine, seed=seed) for seed in (0, 0, 1)
        )
    assert same(one, two)
    assert not same(one, other)
    torch.rand(3)
    assert same(small(), small())


def test_a_box_that_dies_is_queried_only_for_the_rest(tmp_path):
    whole = small(queries=80)

    class DyingError(Exception):
        pass

    black_box = Counting(QueryOnly(PlantedEvidence(max_batch_size=10)))

    def stop(step):
        if step.phase == "querying" and step.number >= 50:
            raise DyingError

    with pytest.raises(DyingError):
        small(black_box, queries=80, checkpoint_dir=tmp_path, on_step=stop)
    assert black_box.num_images == 50
    news = []
    again = small(black_box, queries=80, checkpoint_dir=tmp_path, on_message=news.append)
    assert black_box.num_images == 80
    assert any("50 of 80 answers are in" in line for line in news)
    assert same(whole, again)
    assert whole.metadata["fidelity"] == again.metadata["fidelity"]
    with pytest.raises(InputError, match="other images or settings"):
        small(black_box, queries=80, checkpoint_dir=tmp_path, seed=3)
    small(black_box, queries=80, checkpoint_dir=tmp_path, seed=3, resume=False)
    assert black_box.num_images == 160


def test_steps_are_told():
    steps = []
    small(on_step=steps.append)
    assert [s.phase for s in steps] == ["querying"] * 2 + ["training"] * 4
    assert (steps[1].number, steps[1].of) == (60, 60)


def test_a_black_box_that_answers_nan_is_named():
    with pytest.raises(
        ContractError, match=r"Broken.*NaN.*image \d+.* 0 of 60, are lost; give checkpoint_dir="
    ):
        small(Broken(how="nan"))
    with pytest.raises(InputError, match="always raises"):
        small(Broken(how="raises"))


def test_a_large_disagreement_is_said():
    with pytest.warns(
        ReliabilityWarning, match=r"low fidelity: .* top class in \d+%.* apart on average"
    ):
        made = small()
    assert made.metadata["low_fidelity"] is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queries": 49}, "queries=49"),
        ({"queries": 1e4}, "a whole number >= 50"),
        ({"queries": 10**9}, "GiB"),
        ({"steps": 0}, "steps=0. takes a whole number >= 1"),
        ({"batch_size": 1}, "whole number >= 2"),
        ({"lr": 2}, "lr=2. takes a number in"),
        ({"seed": -1}, "a seed must be"),
        ({"network": 3}, "network must be None"),
        ({"network": nn.Conv2d(3, 4, 1)}, "returns logits"),
        ({"device": "cuda:99"}, "cannot be used"),
        ({"images": torch.zeros(2, 3, 16, 16)}, "fit_surrogate needs at least 4 images"),
    ],
    ids=str,
)
def test_mistakes_are_named(options, words):
    with pytest.raises(InputError, match=words):
        small(**options)


def test_fit_says_what_to_do_for_a_box_that_is_only_queried():
    with pytest.raises(
        GradientError,
        match=r"surrogate = fit_surrogate\(model, images\).*saliencykit fit-surrogate",
    ):
        fit(QueryOnly(PlantedEvidence()), photos(8))


@pytest.mark.slow
def test_a_masker_trained_on_it_finds_the_patch_for_the_box(planted, tmp_path):
    pytest.importorskip("accelerate")
    surrogate, _ = planted
    masker = fit(
        surrogate, photos(200), steps=200, batch_size=16, alternative=GRAY, views_per_image=1
    )
    assert masker.metadata["validation"]["passed"]
    black_box = Counting(QueryOnly(PlantedEvidence()))
    images, labels = PlantedEvidence().examples(40, generator=seeded(5))
    answer = explain(
        black_box, images, labels, masker=OnSurrogate(surrogate, masker), alternative=GRAY
    )
    # whole, kept, dropped and replaced, and one image twice: does the model answer alike?
    assert black_box.num_images == 4 * 40 + 2
    # 0.9 when it was written
    assert iou(answer.mask, PlantedEvidence().evidence(images, labels)).mean() > 0.7
    assert answer.kept.mean() > 0.9
    assert answer.dropped.mean() < 0.5
    files = surrogate.save(tmp_path / "s.safetensors"), masker.save(tmp_path / "m.safetensors")
    again = explain(
        black_box,
        images,
        labels,
        masker="on-surrogate:{},masker={}".format(*files),
        alternative=GRAY,
    )
    assert (again.mask - answer.mask).abs().max() < 2e-2  # half precision
    assert same(Surrogate.load(files[0]), surrogate)
