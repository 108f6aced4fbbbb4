"""CAM against the published sum and Grad-CAM by autograd, and heads that it refuses."""

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.cam.cam import Cam
from saliencykit.testing.unchanged import untouched

IMAGES, LABELS = (
    torch.rand(3, 3, 32, 40, generator=Generator().manual_seed(0)),
    torch.tensor([0, 3, 3]),
)


def seeded(*tail, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, stride=2),
            nn.ReLU(),
        )
        return nn.Sequential(trunk, *(make() for make in tail)).eval()


def linear_head(seed=0):
    return seeded(lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, lambda: nn.Linear(6, 4), seed=seed)


def scores(model, images=IMAGES, labels=LABELS, **black_box):
    with torch.no_grad():
        return (
            Cam()
            .mask(
                TorchBlackBox(model, size=tuple(images.shape[2:]), **black_box),
                images,
                labels,
                Generator(),
            )
            .attributions
        )


def test_is_the_sum_of_the_classs_weights_over_the_maps():
    model = linear_head()
    output = scores(model)
    with torch.no_grad():
        maps, logits = model[0](IMAGES), model(IMAGES)
    for row, label in enumerate(LABELS.tolist()):
        slow = sum(model[3].weight[label, k] * maps[row, k] for k in range(6))
        assert torch.allclose(output[row, 0], slow, atol=1e-6)
        assert torch.isclose(
            output[row].mean() + model[3].bias[label], logits[row, label], atol=1e-6
        )


def test_is_grad_cam_without_its_rectifier_times_the_number_of_positions():
    model = linear_head(seed=1)
    maps = model[0](IMAGES)
    slopes = torch.autograd.grad(model[1:](maps).gather(1, LABELS[:, None]).sum(), maps)[0]
    # Selvaraju et al., equations 1 and 2
    grad_cam = (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)
    assert torch.allclose(scores(model), grad_cam.detach() * maps[0, 0].numel(), atol=1e-5)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_convolution_before_the_pooling_is_a_head_too(rectified):
    middle = [nn.ReLU] if rectified else []
    model = seeded(
        lambda: nn.Conv2d(6, 4, 1), *middle, lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, seed=2
    )
    with torch.no_grad():
        whole = nn.functional.conv2d(model[0](IMAGES), model[1].weight)
    assert torch.allclose(scores(model), whole[torch.arange(3), LABELS][:, None], atol=1e-6)


def test_the_mask_is_the_positive_part_over_its_maximum_alone_and_in_chunks():
    model = linear_head().train()
    with untouched("cam", model, images=IMAGES), torch.no_grad():
        output = Cam().mask(TorchBlackBox(model, size=(32, 40)), IMAGES, LABELS, Generator())
    most = output.attributions.clamp_min(0).amax((1, 2, 3), keepdim=True)
    assert torch.allclose(output.mask, output.attributions.clamp_min(0) / most.clamp_min(1e-30))
    assert torch.allclose(scores(model, max_batch_size=1), output.attributions, atol=1e-6)
    assert torch.allclose(scores(model, IMAGES[2:], LABELS[2:]), output.attributions[2:], atol=1e-6)
    assert torch.allclose(scores(model, IMAGES.double()), output.attributions.double(), atol=1e-5)


def test_new_weights_are_seen_though_the_place_of_the_head_is_remembered():
    model = linear_head()
    before = scores(model)
    with torch.no_grad():
        model[3].weight.mul_(2)
    assert torch.allclose(scores(model), 2 * before, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        seeded(nn.Flatten, lambda: nn.Linear(6 * 7 * 9, 4)),
        seeded(
            lambda: nn.AdaptiveAvgPool2d(1),
            nn.Flatten,
            lambda: nn.Linear(6, 6),
            nn.ReLU,
            lambda: nn.Linear(6, 4),
        ),
        seeded(lambda: nn.AdaptiveMaxPool2d(1), nn.Flatten, lambda: nn.Linear(6, 4)),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 40, 4)),
    ],
    ids=["flattened", "two layers", "max pooling", "no map"],
)
def test_other_heads_are_refused_with_advice(model):
    with pytest.raises(InputError, match="grad-cam"):
        scores(model)


def test_a_black_box_without_submodules_is_refused_with_advice(black_box, examples):
    with pytest.raises(InputError, match=r"PlantedEvidence does not expose.*rise"):
        Cam()(black_box, *examples, generator=Generator())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "densenet121",
        "mobilenet_v2",
        "squeezenet1_1",
        "shufflenet_v2_x0_5",
        "convnext_tiny",
        "swin_t",
    ],
)
def test_works_for_every_family_with_such_a_head(name):
    import torchvision

    model = getattr(torchvision.models, name)(weights=None, num_classes=5).eval()
    images = torch.rand(2, 3, 64, 64, generator=Generator().manual_seed(1))
    if name == "convnext_tiny":  # a norm between pooling and head
        with pytest.raises(InputError, match="grad-cam"):
            scores(model, images, torch.tensor([1, 4]))
        return
    output = scores(model, images, torch.tensor([1, 4]))
    with torch.no_grad():
        logits = model(images)
    head = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    if name != "squeezenet1_1":  # rectified behind the map
        assert torch.allclose(
            output.mean((1, 2, 3)) + head.bias[[1, 4]], logits[[0, 1], [1, 4]], atol=1e-4
        )
