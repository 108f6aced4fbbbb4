"""Rest: any layer's maps give the model's own answer, or a refusal."""

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.partial_network import network_after
from saliencykit.testing.unchanged import untouched

IMAGES = torch.rand(3, 3, 16, 16, generator=Generator().manual_seed(0))


class Skip(nn.Module):
    def __init__(self, past):
        super().__init__()
        self.past, self.stem = past, nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two, self.head = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(4 * 256, 5),
        )

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.one(x).relu()
        return self.head((self.two(y) + (x if self.past else y)).flatten(1))


@pytest.mark.parametrize(
    ("past", "layer"),
    [(False, "stem"), (False, "one"), (False, "two"), (True, "stem"), (True, "one"), (True, "two")],
)
def test_gives_the_models_answer_or_refuses_a_layer_that_something_goes_past(past, layer):
    model = Skip(past).eval()
    black_box, feature_map = TorchBlackBox(model, size=16), FeatureMap(layer, "maps", 4, (16, 16))
    if layer == "two" or (past and layer == "one"):
        with pytest.raises(InputError, match=f"output of '{layer}' alone"):
            network_after(black_box, IMAGES[:1], feature_map)
        return
    with untouched("rest", model, images=IMAGES), torch.no_grad():
        partial_network = network_after(black_box, IMAGES[:1], feature_map)
        logits, (maps,) = read_feature_maps(black_box, IMAGES, [feature_map])
        assert torch.allclose(partial_network(maps, IMAGES.shape[1:]), logits, atol=1e-5)


def test_the_layers_before_do_not_run():
    model = Skip(False).eval()
    partial_network = network_after(
        TorchBlackBox(model, size=16), IMAGES[:1], FeatureMap("one", "maps", 4, (16, 16))
    )
    queried = []
    partial_network.black_box.module.stem.register_forward_pre_hook(
        lambda module, given: queried.append(module.forward)
    )
    partial_network(torch.rand(2, 4, 16, 16), (3, 16, 16))
    assert all(type(forward).__name__ == "_Zeros" for forward in queried)


def test_a_model_that_refuses_deepcopy_is_split_all_the_same():
    class Stubborn(Skip):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    black_box = TorchBlackBox(Stubborn(False).eval(), size=16)
    assert network_after(black_box, IMAGES[:1], FeatureMap("one", "maps", 4, (16, 16)))


def test_a_black_box_that_hides_its_model_is_refused():
    network = Skip(False).eval()

    class Hiding(BlackBox):
        num_classes, differentiable = 5, True
        module = property(lambda self: network)

        def logits(self, images):
            return network(images)

    with pytest.raises(InputError, match="does not keep Skip in its attributes"):
        network_after(Hiding(), IMAGES[:1], FeatureMap("one", "maps", 4, (16, 16)))
