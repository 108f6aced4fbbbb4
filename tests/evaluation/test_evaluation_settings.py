import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.evaluation.evaluation_settings import (
    BASELINES,
    describe,
    named_maskers,
    named_metrics,
    with_baselines,
)
from saliencykit.maskers.baselines import CenterBox
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.registry.coerce import as_masker


class Mine(Masker):
    def mask(self, black_box, images, labels, generator):
        return images.new_ones(len(images), 1, 1, 1)


def test_names_come_from_the_text_the_file_the_class_or_the_mapping(black_box):
    assert list(named_maskers(["rise:samples=4", Mine()], black_box)) == ["rise:samples=4", "Mine"]
    assert list(named_maskers({"a": "rise", "b": "rise"}, black_box)) == ["a", "b"]
    assert list(named_maskers("rise", black_box)) == ["rise"]
    assert list(named_maskers(CenterBox(), black_box)) == ["CenterBox"]
    assert list(named_metrics("saliency-score")) == ["saliency-score"]


@pytest.mark.parametrize("wrong", [3, ["rise", 3], ["rise", "rise"], {"": "rise"}])
def test_wrong_maskers_are_refused(black_box, wrong):
    with pytest.raises(InputError):
        named_maskers(wrong, black_box)


def test_baselines_are_added_once():
    assert tuple(with_baselines({}, BASELINES)) == BASELINES
    assert "grad-cam" not in with_baselines({"mine": GradCam()}, BASELINES)
    assert list(with_baselines({"c": as_masker("center-box:area=0.1")}, ["center-box"])) == [
        "c",
        "center-box",
    ]


def test_settings_do_not_differ_between_processes(black_box):
    one, other = (
        describe(black_box, {"mine": Mine()}, named_metrics("saliency-score"), 0, "data")
        for _ in range(2)
    )
    assert one == other
    assert "0x" not in one["maskers"]["mine"]
    assert one["metrics"]["saliency-score"]["higher_is_better"] is False
    assert one["metrics"]["saliency-score"]["about"].startswith("The saliency metric: the log area")


def test_two_trainings_of_one_network_are_told_apart():
    from saliencykit.demo import demo_black_box

    black_box = demo_black_box()
    masker = as_masker("demo")
    before = describe(black_box, {"m": masker}, {}, 0, "")
    with torch.no_grad():
        next(iter(masker.network.decoder.parameters())).add_(1)
    assert describe(black_box, {"m": masker}, {}, 0, "")["maskers"] != before["maskers"]
    assert before["model"]["fingerprint"]
