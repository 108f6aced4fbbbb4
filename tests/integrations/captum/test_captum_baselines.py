"""Baselines and feature masks: who takes them, and the mean over a feature."""

import pytest
import torch
from torch import Generator

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum.captum_baselines import (
    GivenBaseline,
    averaged,
    whole_numbers,
    with_baseline,
    with_regions,
)
from saliencykit.maskers.baselines import CenterBox
from saliencykit.maskers.cam.score_cam import ScoreCam
from saliencykit.maskers.optimization.extremal_perturbation import ExtremalPerturbation
from saliencykit.maskers.optimization.iterative import Iterative
from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
from saliencykit.maskers.perturbation.occlusion import Occlusion
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.testing import check_alternative


def test_a_given_baseline_is_an_alternative():
    check_alternative(GivenBaseline(torch.rand(1, 3, 1, 1)))


@pytest.mark.parametrize(
    "masker", [Occlusion(), Rise(), FeatureAblation(), Iterative(), ScoreCam()]
)
def test_maskers_with_an_alternative_take_a_baseline(masker):
    image = torch.rand(1, 3, 4, 4)
    own = with_baseline(masker, image)
    assert type(own) is type(masker)
    assert torch.equal(
        own.alternative(torch.rand(2, 3, 4, 4), generator=Generator()),
        image.expand(2, -1, -1, -1),
    )


def test_a_masker_that_replaces_nothing_refuses_baselines():
    with pytest.raises(InputError, match=r"CenterBox replaces no pixels.*'occlusion'"):
        with_baseline(CenterBox(), torch.zeros(1, 3, 4, 4))


def test_a_masker_with_a_special_alternative_refuses_baselines():
    with pytest.raises(
        InputError, match=r"GivenBaseline\(image of \(1, 3, 4, 4\)\)\) takes BlurPyramid"
    ):
        with_baseline(ExtremalPerturbation(), torch.zeros(1, 3, 4, 4))


def test_features_become_regions_where_the_masker_has_them():
    features = torch.arange(8).view(1, 1, 2, 4)
    assert torch.equal(
        with_regions(FeatureAblation(), features.expand(1, 3, 2, 4)).regions, features
    )
    assert with_regions(FeatureAblation(), torch.arange(24).view(1, 3, 2, 4)) is None
    assert with_regions(Occlusion(), features) is None


@pytest.mark.parametrize("rows", [1, 4])
def test_the_mean_over_features_equals_a_loop(rows):
    g = Generator().manual_seed(0)
    maps = torch.rand(4, 3, 5, 6, generator=g)
    features = torch.randint(-2, 3, (rows, 3, 5, 6), generator=g)
    wanted = maps.clone()
    for row in range(4):
        own = features[row % rows]
        for name in own.unique():
            wanted[row][own == name] = maps[row][own == name].mean()
    assert torch.allclose(averaged(maps, features), wanted)


def test_feature_masks_are_integers():
    assert whole_numbers(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    with pytest.raises(InputError, match="whole numbers"):
        whole_numbers(torch.tensor([0.5]))
