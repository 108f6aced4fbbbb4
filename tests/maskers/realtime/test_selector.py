import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.selector import ClassFilters


def filters(trained=False, classes=4, channels=6):
    g = torch.Generator().manual_seed(0)
    return ClassFilters(
        torch.randn(classes, channels, generator=g),
        torch.randn(classes, generator=g),
        trained=trained,
    )


def coarse(count=5, channels=6):
    return torch.randn(count, channels, 3, 3, generator=torch.Generator().manual_seed(1)).relu()


def test_responses_are_scalar_products_with_centered_filters():
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 6, generator=g), torch.randn(4, generator=g)
    maps, labels = coarse(), torch.tensor([0, 1, 2, 3, 1])
    responses = ClassFilters(weight, bias).responses(maps, labels)
    for b, label in enumerate(labels.tolist()):
        for i in range(3):
            for j in range(3):
                own = maps[b, :, i, j] @ weight[label] + bias[label]
                others = sum(maps[b, :, i, j] @ weight[k] + bias[k] for k in range(4)) / 4
                assert responses[b, 0, i, j].item() == pytest.approx(
                    (own - others).item(), abs=1e-5
                )


def test_responses_of_all_classes_sum_to_zero():
    selector, maps = filters(), coarse(1)
    total = sum(selector.responses(maps, torch.tensor([k])) for k in range(4))
    assert torch.allclose(total, torch.zeros_like(total), atol=1e-5)


def test_the_gate_is_scale_times_response_minus_threshold():
    selector, maps, labels = filters(), coarse(), torch.tensor([0, 1, 2, 3, 1])
    with torch.no_grad():
        selector.log_scale.fill_(0.7)
        selector.log_threshold.fill_(-0.4)
    scale, threshold = torch.tensor(0.7).exp(), torch.tensor(-0.4).exp()
    assert torch.allclose(
        selector(maps, labels), scale * (selector.responses(maps, labels) - threshold), atol=1e-5
    )


def test_after_calibration_the_typical_maximum_opens_the_gate_and_no_response_closes_it():
    selector, maps, labels = filters(), coarse(9), torch.arange(9) % 4
    selector.calibrate(maps, labels)
    strongest = selector.responses(maps, labels).amax((1, 2, 3)).median()
    scale, threshold = selector.log_scale.exp(), selector.log_threshold.exp()
    assert torch.sigmoid(scale * (strongest - threshold)).item() > 0.99
    assert torch.sigmoid(scale * (0 - threshold)).item() == pytest.approx(0.047, abs=0.002)
    assert threshold.item() == pytest.approx(0.37 * strongest.item(), rel=1e-4)


@pytest.mark.parametrize("level", [0.0, -5.0])
def test_calibration_without_any_response_stays_finite(level):
    selector = ClassFilters(torch.randn(4, 6), torch.full((4,), level))
    selector.calibrate(torch.zeros(3, 6, 2, 2), torch.tensor([0, 1, 2]))
    gate = selector(torch.ones(3, 6, 2, 2), torch.tensor([0, 1, 2]))
    assert torch.isfinite(gate).all()


def test_class_logits_are_the_mean_responses():
    selector, maps = filters(), coarse(2)
    logits = selector.class_logits(maps)
    for k in range(4):
        assert torch.allclose(
            logits[:, k], selector.responses(maps, torch.full((2,), k)).mean((1, 2, 3)), atol=1e-5
        )


def test_filters_of_the_classifier_are_neither_trained_nor_stored():
    selector = filters()
    assert {name for name, p in selector.named_parameters() if p.requires_grad} == {
        "log_scale",
        "log_threshold",
    }
    assert set(selector.state_dict()) == {"log_scale", "log_threshold"}
    trained = filters(trained=True)
    assert {"weight", "bias"} <= set(trained.state_dict())
    assert {"weight", "bias"} <= {name for name, _ in trained.named_parameters()}


def test_filters_can_be_read_from_another_head_of_the_same_shape():
    selector, g = filters(), torch.Generator().manual_seed(5)
    weight, bias = torch.randn(4, 6, generator=g), torch.randn(4, generator=g)
    selector.read_from(weight, bias)
    assert torch.equal(selector.weight, ClassFilters(weight, bias).weight)
    assert torch.equal(selector.bias, ClassFilters(weight, bias).bias)
    with pytest.raises(InputError, match=r"\(5, 6\).*\(4, 6\)"):
        selector.read_from(torch.zeros(5, 6), torch.zeros(5))


@pytest.mark.parametrize(("weight", "bias"), [((4, 6), (3,)), ((4,), (4,)), ((4, 6, 1), (4,))])
def test_shapes_that_do_not_match_are_refused(weight, bias):
    with pytest.raises(InputError, match=r"ClassFilters: expected weight \(K, C\) and bias \(K,\)"):
        ClassFilters(torch.zeros(weight), torch.zeros(bias))
