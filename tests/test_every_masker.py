"""Every built-in masker on architectures that differ in mechanism: it answers, or refuses in one
line with a reason of its own; and however a network is written, it answers the same.
"""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit import explain
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.maskers.baselines import GroundTruthBox
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.on_surrogate import OnSurrogate
from saliencykit.registry.manager import registry
from tests.helpers import fixed, seeded

SIDE, CLASSES = 64, 6
FEW = {
    "iterative": "steps=2,areas=(0.2,0.2)",
    "meaningful-perturbation": "steps=2",
    "extremal-perturbation": "steps=2",
    "rise": "samples=8",
    "occlusion": "window=32,stride=16",
    "feature-ablation": "grid_size=3",
    "integrated-gradients": "steps=2",
    "smoothgrad": "samples=2",
    "feedback": "iterations=2",
    "score-cam": "channels=6",
}
# those of a model or a run of their own
LEFT_OUT = {"demo", "stored"}
MASKERS = [
    short
    for name in registry().names("masker")
    for plugin, short in [name.split("/")]
    if plugin == "saliencykit" and short not in LEFT_OUT
]


def masker_of(name: str, image: Tensor, model: nn.Module) -> Masker | str:
    """The masker with few steps; and what it needs besides its name."""
    if name == "ground-truth":
        return GroundTruthBox.of(image, [[[8, 8, 40, 40]]] * len(image))
    if name == "on-surrogate":
        return OnSurrogate(TorchBlackBox(model, size=SIDE), GradCam())
    return f"{name}:{FEW[name]}" if name in FEW else name


def torchvision(name: str, **options: object) -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    return models.get_model(name, weights=None, num_classes=CLASSES, **options)


def timm(name: str, **options: object) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, num_classes=CLASSES, **options)


def resnet() -> nn.Module:
    from torchvision.models import resnet

    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


def densenet() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 2, 2), 16, num_classes=CLASSES)


def vgg() -> nn.Module:
    from torchvision.models import vgg

    net = vgg.VGG(vgg.make_layers([8, "M", 16, "M", 32, 32, "M"], batch_norm=True))
    head = (nn.Linear(32 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, CLASSES))
    net.classifier = nn.Sequential(*head)
    return net


class Branches(nn.Module):
    """Two blocks of GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.googlenet import BasicConv2d, Inception

        self.stem = BasicConv2d(3, 16, kernel_size=5, stride=4, padding=2)
        self.first = Inception(16, 8, 4, 8, 4, 8, 8)
        self.second = Inception(32, 8, 4, 8, 4, 8, 8)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.first(self.stem(x)), 3, stride=2, ceil_mode=True)
        return self.head(self.second(x).mean((2, 3)))


class Functional(nn.Module):
    """ReLUs, additions and pooling as functions, some of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1, bias=False)
        self.norm, self.third = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.second(F.relu6(self.first(x), inplace=True))), inplace=True)
        x = F.max_pool2d(torch.clamp(self.third(x) + x, min=0), 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Wrapped(nn.Module):
    """A wrapper that passes attributes on, as those of training frameworks do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Functional()

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(*args)}


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "ReLU6 in place": partial(torchvision, "mobilenet_v2", width_mult=0.25),
    "residual": resnet,
    "convolutional head": partial(torchvision, "squeezenet1_1"),
    "hardswish and gates": partial(timm, "mobilenetv3_small_050"),
    "preactivation": densenet,
    "fully connected": vgg,
    "LayerNorm": partial(timm, "convnext_atto", depths=(1, 1, 1, 1)),
    "tokens": partial(timm, "vit_tiny_patch16_224", depth=2, img_size=SIDE),
    "windows": partial(
        timm, "swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1, 2, 1), img_size=SIDE
    ),
    "SiLU": partial(timm, "test_efficientnet"),
    "branches": Branches,
    "functions": Functional,
    "wrapped": Wrapped,
    "DataParallel": lambda: nn.DataParallel(Functional()),
}


def ready(make: Callable[[], nn.Module]) -> nn.Module:
    """The network with statistics in its batch norms, in eval mode."""
    model = fixed(make).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for seed in range(2):
            model(torch.randn(8, 3, SIDE, SIDE, generator=seeded(seed)))
    return model.eval()


def image(count: int = 1) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=seeded(1)) * torch.linspace(0.1, 1, SIDE)


@pytest.fixture(autouse=True)
def untrained() -> Iterator[None]:
    """Masks of networks with random weights are doubtful, which is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_masker_answers_on_every_architecture_or_says_why_not(architecture: str) -> None:
    model, x = ready(ARCHITECTURES[architecture]), image()
    refused = []
    for name in MASKERS:
        try:
            mask = explain(model, x, 1, masker=masker_of(name, x, model)).mask
        except SaliencyKitError as error:
            refused.append(str(error))
            continue
        assert mask.shape == (1, 1, SIDE, SIDE), name
        assert mask.isfinite().all(), name
        assert 0 <= mask.min() <= mask.max() <= 1, name
    assert len(refused) < 9
    # not just what torch said: each model takes the image
    assert not [line for line in refused if "\n" in line or "raised" in line]


class Bound(nn.Module):
    """A rectifier as an expression."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """A small residual network of two bounded activations and a ReLU."""

    def __init__(self, *acts: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.last = acts
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.third, self.third_norm = nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.mean, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.first_norm(self.first(x)))
        x = F.max_pool2d(self.two(self.second_norm(self.second(x)) + x), 2)
        return self.head(self.mean(self.last(self.third_norm(self.third(x)))).flatten(1))

    def folded(self) -> None:
        """Fold the norms by hand."""
        for name in ("first", "second", "third"):
            convolution, norm = getattr(self, name), getattr(self, f"{name}_norm")
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            before = 0 if convolution.bias is None else convolution.bias
            convolution.weight = nn.Parameter(convolution.weight * scale.view(-1, 1, 1, 1))
            convolution.bias = nn.Parameter(norm.bias + scale * (before - norm.running_mean))
            setattr(self, f"{name}_norm", nn.Identity())


def twins() -> tuple[nn.Module, nn.Module]:
    """One network with modules in place and norms to fold, and with neither; in float64."""
    acts = nn.ReLU6(inplace=True), nn.ReLU6(inplace=True), nn.ReLU(inplace=True)
    modules = ready(lambda: Residual(*acts)).double()
    with torch.no_grad():
        for norm in (modules.first_norm, modules.second_norm, modules.third_norm):
            norm.weight.copy_(torch.linspace(0.5, 3, norm.num_features))
    functions = Residual(
        Bound(lambda x: x.clamp(0, 6)),
        Bound(lambda x: torch.minimum(F.relu(x), x.new_tensor(6.0))),
        Bound(lambda x: torch.where(x > 0, x, 0.0)),
    )
    functions.double().eval().load_state_dict(modules.state_dict())
    functions.folded()
    return modules, functions


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKERS)
def test_the_same_network_written_otherwise_has_the_same_mask(name: str) -> None:
    x = image().double()
    modules, functions = (
        explain(model, x, 1, masker=masker_of(name, x, model)).mask for model in twins()
    )
    assert (modules - functions).abs().mean() < 1e-6


@pytest.mark.slow
def test_masks_do_not_depend_on_threads_other_classes_the_batch_or_the_verification() -> None:
    model, x = twins()[0], image(2).double()
    others = ("noise", "constant", "blur-pyramid", "crop", "choice")

    def mask(name: str, labels: object = (1, 3), count: int = 2, **options: object) -> Tensor:
        given = masker_of(name, x[:count], model)
        return explain(model, x[:count], list(labels), masker=given, **options).mask

    wanted = {name: mask(name) for name in MASKERS}

    def differs(name: str, got: Tensor) -> bool:
        return float((got - wanted[name][: len(got)]).abs().mean()) > 1e-6

    with ThreadPoolExecutor(4) as pool:  # neighbors in the list run at once
        masks = pool.map(mask, MASKERS * 2)
        assert not [
            name for name, got in zip(MASKERS * 2, masks, strict=True) if differs(name, got)
        ]
    for number, name in enumerate(MASKERS):
        alternative = others[number % len(others)]
        assert not differs(name, mask(name, ([1, 3], [3, 1]))[::2]), name
        assert not differs(name, mask(name, (1,), 1, alternative=alternative)), name
