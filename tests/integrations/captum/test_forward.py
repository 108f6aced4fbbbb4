"""A forward function as a black box: the model's own where that is possible."""

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.core.errors import ContractError, InputError
from saliencykit.integrations.captum.forward import (
    Forward,
    Limited,
    bind_forward,
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


def test_a_module_is_the_black_boxs_own():
    net = small_network()
    black_box, shape = bind_forward(net, (), X[:1], like=X)
    assert black_box.module is net
    assert shape == (4,)
    assert torch.equal(black_box(X), net.eval()(X))


def test_models_of_torchvision_take_normalized_inputs():
    models = pytest.importorskip("torchvision.models")
    net = models.squeezenet1_1().eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(bind_forward(net, (), x, like=x)[0](x), net(x))


@pytest.mark.parametrize(("outputs", "shape"), [(1, (1,)), (2, (2,)), (3, (3,))])
def test_a_single_sigmoid_output_is_told_from_two_classes(outputs, shape):
    assert bind_forward(head(outputs), (), X[:1], like=X)[1] == shape


@pytest.mark.parametrize("several", [True, False])
def test_outputs_of_several_dimensions_are_flattened(several):
    net = nn.Sequential(head(6), nn.Unflatten(1, (2, 3)))
    black_box, shape = bind_forward(net, (), X[:1], like=X, several_dimensions=several)
    assert shape == (2, 3)
    if several:
        assert torch.equal(black_box(X), net(X).flatten(1))


def test_functions_with_additional_arguments():
    scale = torch.tensor([[2.0]])

    def function(images, scale, names):
        assert names == ["x"]
        assert scale.shape == (len(images), 1)
        return images.mean((2, 3)) * scale

    black_box, shape = bind_forward(function, (scale, ["x"]), X[:1], like=X)
    assert shape == (3,)
    assert torch.allclose(black_box(X), X.mean((2, 3)) * 2)
    check_black_box(black_box, images=X)


def test_a_function_is_called_in_the_dtype_of_its_inputs():
    seen = []

    def function(x):
        seen.append(x.dtype)
        return x.sum((2, 3))

    x = X.to(torch.bfloat16)
    black_box, _ = bind_forward(function, (), x[:1].float(), like=x)
    assert black_box(x.float()).dtype == torch.float32
    assert set(seen) == {torch.bfloat16}


def test_the_model_gets_the_same_from_normalized_inputs_and_raw_pixels():
    net, mean, std = small_network().eval(), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    black_box, _ = bind_forward(net, (), X[:1], like=X, statistics=(mean, std))
    assert black_box.baseline_color == mean
    assert torch.allclose(black_box(raw_pixels(X, (mean, std))), net(X), atol=1e-5)
    with pytest.raises(InputError, match="3 and 3 channels, the inputs have 1"):
        raw_pixels(X[:, :1], (mean, std))


@pytest.mark.parametrize("wrap", [lambda black_box: black_box, BlackBoxModule])
def test_black_boxes_are_queried_as_they_are(wrap):
    own = QueryOnly(PlantedEvidence())
    assert bind_forward(wrap(own), (), X[:1], like=X) == (own, (4,))
    with pytest.raises(InputError, match="has its own mean, std and output"):
        black_box_of_model(wrap(own), ((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(InputError, match="takes no additional_forward_args"):
        bind_forward(wrap(own), (2,), X[:1], like=X)


def test_a_broken_contract_is_reported_in_the_black_boxs_name():
    with pytest.raises(ContractError, match="Broken"):
        bind_forward(Broken(how="rows"), (), X[:2], like=X)


def test_probabilities_are_declared():
    model = nn.Sequential(head(3), nn.Softmax(1))
    black_box, _ = bind_forward(model, (), X[:1], like=X, probabilities=True)
    assert torch.allclose(black_box(X).exp().sum(1), torch.ones(3))


def test_one_output_for_all_rows_is_refused():
    with pytest.raises(InputError, match="returned shape \\(\\) for 2 rows"):
        bind_forward(lambda x: x.sum(), (), X[:2], like=X)


def test_statistics_need_a_module():
    with pytest.raises(InputError, match=r"need a torch nn\.Module"):
        black_box_of_model(len, ((0.5,), (0.5,)))


def test_the_limit_holds_for_the_optimized_copy():
    counting = Counting(PlantedEvidence())
    Limited(counting, 2).optimized_for(X)(X)
    assert counting.batch_sizes == [2, 1]
    assert Limited(PlantedEvidence(max_batch_size=1), 5).max_batch_size == 1


def test_outputs_that_are_not_tensors_are_left_to_the_black_box():
    module = Forward(lambda x: {"logits": x.mean((2, 3))}, (), like=X)
    assert black_box_of_model(module)(X).shape == (3, 3)
