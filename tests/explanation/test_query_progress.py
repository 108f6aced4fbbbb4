"""Progress in evaluations of the model: totals, a bar, and a function."""

import sys

import pytest
import torch
from torch import Generator

from saliencykit.core.errors import InputError
from saliencykit.explanation.explain_images import explain
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def examples():
    black_box = PlantedEvidence()
    return black_box, *black_box.examples(2, generator=Generator().manual_seed(0))


@pytest.mark.parametrize(
    "masker",
    ["rise:samples=32", "gradient", "input-x-gradient", "integrated-gradients:steps=6",
     "smoothgrad:samples=5", "extremal-perturbation:steps=4", "occlusion"],
)  # fmt: skip
@pytest.mark.parametrize("verify", [True, False])
def test_maskers_that_know_their_queries_reach_the_total(masker, verify):
    black_box, images, labels = examples()
    told = []
    black_box = QueryOnly(black_box) if masker == "occlusion" else black_box
    explain(black_box, images, labels, masker=masker, verify=verify,
            progress=lambda *now: told.append(now))  # fmt: skip
    done, total = told[-1]
    assert [count for count, _ in told] == sorted({count for count, _ in told})
    assert {each for _, each in told} == {total}
    assert total - 2 <= done <= total


def test_others_count_without_a_total():
    black_box, images, labels = examples()
    told = []
    explain(black_box, images, labels, masker="iterative:steps=3",
            progress=lambda *now: told.append(now))  # fmt: skip
    assert told[-1][0] > 6
    assert {total for _, total in told} == {None}


def test_a_bar_is_drawn_and_the_explanation_is_the_same(capfd):
    pytest.importorskip("tqdm")
    black_box, images, labels = examples()
    shown = explain(black_box, images, labels, masker="rise:samples=16", progress=True)
    assert "evaluations" in capfd.readouterr().err
    plain = explain(black_box, images, labels, masker="rise:samples=16")
    assert torch.equal(shown.mask, plain.mask)
    assert shown.provenance["model"] == plain.provenance["model"]
    assert capfd.readouterr().err == ""


def test_without_tqdm_and_for_other_values_there_is_advice(monkeypatch):
    black_box, images, labels = examples()
    with pytest.raises(InputError, match="expected True, False or a function"):
        explain(black_box, images, labels, masker="gradient", progress="yes")
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(InputError, match=r"pip install 'saliencykit\[notebook\]'"):
        explain(black_box, images, labels, masker="gradient", progress=True)
