"""A forward function as a black box: the model's own where that is possible."""

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.integrations.captum.canvas import Canvas
from saliencykit.integrations.captum.forward import (
    Forward,
    Limited,
    WithoutLayers,
    asked,
    black_box_of_model,
    raw_pixels,
)
from saliencykit.testing import check_black_box
from saliencykit.testing.black_boxes import (
    Broken,
    Counting,
    PlantedEvidence,
    QueryOnly,
    small_network,
)

X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def head(outputs: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, outputs))


def test_a_module_of_one_picture_is_the_boxs_own():
    net = small_network()
    black_box, sizes = asked(net, Canvas.of(X), (), X)
    assert black_box.module is net
    assert sizes == (4,)
    assert torch.equal(black_box(X), net.eval()(X))


def test_models_of_torchvision_take_what_they_took():
    models = pytest.importorskip("torchvision.models")
    net = models.squeezenet1_1().eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(asked(net, Canvas.of(x), (), x)[0](x), net(x))


@pytest.mark.parametrize(("outputs", "sizes"), [(1, (1,)), (2, (2,)), (3, (3,))])
def test_a_sigmoids_output_is_told_from_two_classes(outputs, sizes):
    assert asked(head(outputs), Canvas.of(X), (), X)[1] == sizes


@pytest.mark.parametrize("flat", [True, False])
def test_outputs_of_several_dimensions(flat):
    net = nn.Sequential(head(6), nn.Unflatten(1, (2, 3)))
    black_box, sizes = asked(net, Canvas.of(X), (), X, flat=flat)
    assert sizes == (2, 3)
    if not flat:
        assert torch.equal(black_box(X), net(X).flatten(1))


def test_functions_of_several_inputs_and_arguments():
    inputs = torch.rand(3, 4), torch.rand(3, 2, 2)
    canvas, scale = Canvas.of(inputs), torch.tensor([[2.0]])

    def function(a, b, scale, names):
        assert names == ["x"]
        assert scale.shape == (len(a), 1)
        return torch.stack([a.sum(1), b.sum((1, 2))], 1) * scale

    black_box, sizes = asked(function, canvas, (scale, ["x"]), canvas.picture(inputs))
    assert sizes == (2,)
    assert black_box.module is None
    assert torch.allclose(
        black_box(canvas.picture(inputs)),
        torch.stack([inputs[0].sum(1), inputs[1].sum((1, 2))], 1) * 2,
    )
    check_black_box(black_box, images=canvas.picture(inputs))


def test_a_function_is_asked_in_the_precision_and_place_of_its_inputs():
    seen = []

    def function(x):
        seen.append(x.dtype)
        return x.sum((2, 3))

    x = X.to(torch.bfloat16)
    black_box, _ = asked(function, Canvas.of(x), (), x.float())
    assert black_box(x.float()).dtype == torch.float32
    assert set(seen) == {torch.bfloat16}


def test_normalised_inputs_and_raw_pixels_are_the_same_to_the_model():
    net, mean, std = small_network().eval(), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    black_box, _ = asked(net, Canvas.of(X), (), X, statistics=(mean, std))
    assert black_box.baseline_color == mean
    assert torch.allclose(black_box(raw_pixels(X, (mean, std))), net(X), atol=1e-5)
    with pytest.raises(InputError, match="3 and 3 channels, and the inputs 1"):
        raw_pixels(X[:, :1], (mean, std))


@pytest.mark.parametrize("wrap", [lambda black_box: black_box, BlackBoxModule])
def test_boxes_are_asked_as_they_are(wrap):
    own = QueryOnly(PlantedEvidence())
    assert asked(wrap(own), Canvas.of(X), (), X) == (own, (4,))
    with pytest.raises(InputError, match="knows its own mean, std and outputs"):
        black_box_of_model(wrap(own), ((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(InputError, match="takes one batch of pictures"):
        asked(wrap(own), Canvas.of((X, X)), (), torch.cat([X, X], 3))


def test_a_box_that_breaks_its_contract_says_so_itself():
    with pytest.raises(ContractError, match="Broken"):
        asked(Broken(how="rows"), Canvas.of(X), (), X)


def test_probabilities():
    black_box, _ = asked(
        nn.Sequential(head(3), nn.Softmax(1)), Canvas.of(X), (), X, outputs="probabilities"
    )
    assert torch.allclose(black_box(X).exp().sum(1), torch.ones(3))


def test_one_answer_for_all_rows_is_refused():
    with pytest.raises(InputError, match="answered 1 rows with shape"):
        asked(lambda x: x.sum(), Canvas.of(X), (), X)


def test_statistics_are_for_modules():
    with pytest.raises(InputError, match=r"for a torch nn\.Module"):
        black_box_of_model(len, ((0.5,), (0.5,)))


def test_limits_hold_for_copies_too():
    counting = Counting(PlantedEvidence())
    Limited(counting, 2).optimized_for(X)(X)
    assert counting.batch_sizes == [2, 1]
    assert Limited(PlantedEvidence(max_batch_size=1), 5).max_batch_size == 1


def test_without_layers():
    black_box = WithoutLayers(TorchBlackBox(small_network()))
    assert black_box.optimized_for(X).module is None
    assert black_box(X).shape == (3, 4)


def test_the_module_leaves_answers_that_are_no_tensor_to_the_box():
    module = Forward(lambda x: {"logits": x.mean((2, 3))}, Canvas.of(X))
    assert black_box_of_model(module)(X).shape == (3, 3)
