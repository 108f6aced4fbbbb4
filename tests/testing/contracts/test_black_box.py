"""The suite must catch what it promises to catch: each part below breaks one clause as real ones
do.
"""

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.testing import BrokenContractError, check_black_box
from saliencykit.testing.black_boxes import Broken, PlantedEvidence, QueryOnly
from saliencykit.testing.contracts import black_box as suite

X = PlantedEvidence().examples(4, generator=torch.Generator().manual_seed(0))[0]


class Silent(BlackBox):
    differentiable = True

    def logits(self, images):
        return colors(images)


class Box(BlackBox):
    num_classes, differentiable = 2, True

    def __init__(self, logits, **attributes):
        self.given = logits
        for name, value in attributes.items():
            setattr(self, name, value)

    def logits(self, images):
        return self.given(images)


class OwnCall(Box):
    def __call__(self, images):
        return self.given(images)


class Stateful:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return colors(x) + self.calls


def colors(x):
    return x.mean((2, 3))[:, :2]


def root(x):
    return (colors(x) - colors(x).detach()).abs().sqrt() + colors(x)


BROKEN = [
    (3, suite.KIND, "int"),
    (OwnCall(colors), suite.OWN_CALL, "OwnCall.__call__"),
    (Silent(), suite.DECLARES, "none"),
    (Box(lambda x: colors(x)[:, :1]), suite.LOGITS, "expected logits of shape"),
    (Broken(how="nan"), suite.LOGITS, "NaN or infinite"),
    (Broken(how="integer"), suite.LOGITS, "logits are float"),
    (Broken(how="list"), suite.LOGITS, "returned list"),
    (Broken(how="raises"), suite.LOGITS, "raised RuntimeError"),
    (Box(lambda x: colors(x.view(len(x), -1))), suite.LOGITS, "raised IndexError"),
    (Box(colors, num_classes=2.0), suite.CLASSES, "2.0"),
    (Box(colors, differentiable="yes"), suite.DIFFERENTIABLE, "'yes'"),
    (Box(colors, max_batch_size=2.0), suite.LOGITS, "it raised TypeError"),
    (Box(colors, max_batch_size=0), suite.LARGEST, "0"),
    (Box(colors, device="cpu"), suite.DEVICE, "'cpu'"),
    (Box(colors, class_names=["one"]), suite.NAMES, "1 for 2 classes"),
    (Box(colors, baseline_color=(0.5,)), suite.BASELINE, "(0.5,)"),
    (Box(Stateful()), suite.REPEATS, "a second time"),
    (Box(lambda x: colors(x - x.mean(0))), suite.ROWS, "for row 3 alone"),
    (Box(colors, optimized_for=lambda x: None), suite.OPTIMIZED, "NoneType"),
    (
        Box(colors, optimized_for=lambda x: Box(lambda x: -colors(x))),
        suite.OPTIMIZED,
        "after optimized_for",
    ),
    (Box(colors, without_preprocessing=lambda: None), suite.BARE, "NoneType"),
    (
        Box(lambda x: nn.functional.conv2d(x, torch.ones(2, 3, 1, 1)).mean((2, 3))),
        suite.DOUBLES,
        "raised RuntimeError",
    ),
    (
        Box(lambda x: colors(x) * (1 if x.dtype == torch.float32 else 2)),
        suite.DOUBLES,
        "for images.double()",
    ),
    (
        Box(torch.enable_grad()(lambda x: colors(x)), differentiable=False),
        suite.QUERY_ONLY,
        "requires_grad True",
    ),
    (Box(lambda x: colors(x).detach()), suite.PATH, "requires_grad False"),
    (Box(root), suite.SLOPE, "NaN or infinity"),
    (Box(lambda x: colors(x.detach()) + x.sum() * 0), suite.REACHES, "zeros everywhere"),
    (Box(lambda x: colors(x.mul_(0.9))), suite.GIVES_BACK, "changed images"),
    (
        Box(lambda x: colors(x) + 0 * torch.rand(1)),
        suite.GIVES_BACK,
        "changed the random state of torch",
    ),
]
SKIPPED = [(None, suite.PREPARED, "")]  # the test below


@pytest.mark.parametrize(("part", "clause", "words"), BROKEN)
def test_a_broken_part_is_found(part, clause, words, breaks):
    breaks(check_black_box, part, clause, words, images=X.clone())


def test_every_clause_has_a_broken_part(covers):
    covers(suite, BROKEN + SKIPPED)


GEOMETRY = Geometry(source_size=(90, 120), region=(0.0, 0.0, 120.0, 90.0), size=(8, 8))
GRAY = torch.full((1, 3, 8, 8), 0.5)


@pytest.mark.parametrize(
    ("prepared", "words"),
    [
        (lambda image: (GRAY * 4 - 2.5, GEOMETRY), "from -0.5 to -0.5"),
        (lambda image: (GRAY[0], GEOMETRY), "float32 (3, 8, 8)"),
        (lambda image: (GRAY[:, :, 1:], GEOMETRY), "float32 (1, 3, 7, 8)"),
        (
            lambda image: (
                GRAY,
                Geometry(source_size=(120, 90), region=(0.0, 0.0, 1.0, 1.0), size=(8, 8)),
            ),
            "source_size=(120, 90)",
        ),
        (lambda image: GRAY[0], "it raised ValueError"),
        (lambda image: image.nothing, "it raised AttributeError"),
    ],
)
def test_wrong_preprocessing_is_found(prepared, words, breaks):
    breaks(check_black_box, Box(colors, prepare=prepared), suite.PREPARED, words)


def test_good_black_boxes_pass():
    check_black_box(
        Box(colors, max_batch_size=1, class_names=("a", "b"), baseline_color=(0.5, 0.4, 0.3)),
        images=X,
    )
    check_black_box(QueryOnly(Box(colors)), images=X)
    check_black_box(
        TorchBlackBox(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            mean=(0.5,) * 3,
            std=(1.0,) * 3,
            size=8,
        )
    )
    with pytest.raises(
        InputError, match="needs images=, because the black box does not prepare images"
    ):
        check_black_box(Box(colors))


def test_changes_of_the_model_are_found(alone):
    class Trains(nn.Module):
        def forward(self, x):
            self.register_forward_hook(lambda *a: None)
            return colors(x)

    with pytest.raises(BrokenContractError, match="changed the hooks of the model") as caught:
        check_black_box(TorchBlackBox(Trains().eval()), images=X)
    assert caught.value.clause is suite.GIVES_BACK
