import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.bottleneck_decoder import Bottleneck
from saliencykit.maskers.realtime.decoder import mask_ratio
from saliencykit.maskers.realtime.unet_decoder import UNet

CHANNELS, SIDES = (6, 8, 10), ((16, 16), (8, 8), (4, 4))
DECODERS = {
    "unet": lambda: UNet(CHANNELS, SIDES, (16, 16)),
    "unet, further up": lambda: UNet(CHANNELS[1:], SIDES[1:], (32, 32)),
    "unet, one map": lambda: UNet(CHANNELS[2:], SIDES[2:], (16, 16)),
    "unet, rectangle": lambda: UNet((6, 8), ((10, 14), (5, 7)), (20, 28)),
    "bottleneck": lambda: Bottleneck(CHANNELS, SIDES, (16, 16), width=8),
    "bottleneck, three blocks": lambda: Bottleneck(CHANNELS, SIDES, (8, 8), width=8, blocks=3),
}
numbers = st.floats(-1e3, 1e3, width=32)


def maps_for(decoder, count=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, c, *s, generator=g)
        for c, s in zip(decoder.channels, decoder.sides, strict=True)
    ]


def gate_for(decoder, count=3, seed=1):
    return torch.rand(count, 1, *decoder.sides[-1], generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=DECODERS)
def decoder(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DECODERS[request.param]()


def randomized(decoder):
    """With weights and batch-norm statistics as after some training."""
    with torch.no_grad():
        g = torch.Generator().manual_seed(3)
        for module in decoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                for part in (module.weight, module.bias, module.running_mean):
                    part.copy_(torch.rand(part.shape, generator=g) + 0.2)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=g) + 0.5)
        decoder.last.weight.copy_(torch.randn(decoder.last.weight.shape, generator=g))
    return decoder.eval()


# the mask


@given(keep=numbers, replace=numbers, confidence=st.floats(-20, 20))
def test_the_mask_is_between_0_and_1(keep, replace, confidence):
    value = mask_ratio(torch.tensor([keep, replace]).view(1, 2, 1, 1), confidence)
    assert value.shape == (1, 1, 1, 1)
    assert 0 <= value.item() <= 1


@given(
    keep=st.floats(0.01, 100),
    replace=st.floats(0.01, 100),
    scale=st.floats(1, 1000),
    sign=st.sampled_from([1, -1]),
)
def test_the_mask_does_not_depend_on_scale_or_sign(keep, replace, scale, sign):
    pair = torch.tensor([keep, replace], dtype=torch.float64).view(1, 2, 1, 1)
    slack = 1e-4 / (keep + replace)  # the largest effect of eps
    assert mask_ratio(pair).item() == pytest.approx(
        mask_ratio(pair * scale * sign).item(), abs=slack + 1e-9
    )


@given(
    keep=st.floats(0, 100), replace=st.floats(0, 100), low=st.floats(-10, 10), step=st.floats(0, 10)
)
def test_the_mask_decreases_with_the_confidence(keep, replace, low, step):
    pair = torch.tensor([keep, replace], dtype=torch.float64).view(1, 2, 1, 1)
    assert mask_ratio(pair, low).item() >= mask_ratio(pair, low + step).item() - 1e-12


def test_the_mask_is_the_documented_formula():
    pair = torch.randn(2, 2, 3, 3)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                a, c = abs(pair[b, 0, i, j].item()), abs(pair[b, 1, i, j].item())
                assert mask_ratio(pair)[b, 0, i, j].item() == pytest.approx(
                    a / (a + c + 1e-4), abs=1e-6
                )
                assert mask_ratio(pair, 1.5)[b, 0, i, j].item() == pytest.approx(
                    a / (a + 2.718281828**1.5 * c + 1e-4), abs=1e-6
                )


def test_the_gradient_at_0_over_0_is_finite():
    pair = torch.zeros(1, 2, 1, 1, requires_grad=True)
    mask = mask_ratio(pair)
    assert mask.item() == 0
    assert torch.isfinite(torch.autograd.grad(mask.sum(), pair)[0]).all()


# decoders


def test_an_untrained_decoder_returns_exactly_the_gate(decoder):
    gate = gate_for(decoder)
    for mode in (True, False):
        pair = decoder.train(mode)(decoder.prepare(maps_for(decoder)), gate)
        large = F.interpolate(gate, size=decoder.side, mode="bilinear", align_corners=False)
        assert pair.shape == (3, 2, *decoder.side)
        assert torch.equal(pair, torch.cat([large, 1 - large], 1))
        assert torch.allclose(mask_ratio(pair), large, atol=2e-4)


def test_each_image_is_decoded_independently(decoder):
    decoder, maps, gate = randomized(decoder), maps_for(decoder), gate_for(decoder)
    batch = decoder(decoder.prepare(maps), gate)
    for row in range(3):
        alone = decoder(decoder.prepare([m[row : row + 1] for m in maps]), gate[row : row + 1])
        assert torch.allclose(alone[0], batch[row], atol=1e-4)


def test_the_folded_copy_gives_the_same_result(decoder):
    decoder, maps, gate = randomized(decoder), maps_for(decoder), gate_for(decoder)
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    folded = decoder.folded()
    with torch.no_grad():
        one, other = decoder(decoder.prepare(maps), gate), folded(folded.prepare(maps), gate)
    assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(torch.equal(value, state[name]) for name, value in decoder.state_dict().items())
    if isinstance(decoder, UNet):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_the_options_make_the_same_decoder(decoder):
    again = type(decoder)(**decoder.options())
    assert again.options() == decoder.options()
    again.load_state_dict(decoder.state_dict())
    gate = gate_for(decoder)
    one, other = (d.eval()(d.prepare(maps_for(decoder)), gate) for d in (decoder, again))
    assert torch.equal(one, other)


def test_every_weight_is_used(decoder):
    randomized(decoder).train()
    gate = gate_for(decoder)
    loss = decoder(decoder.prepare(maps_for(decoder)), gate).square().sum()
    grads = torch.autograd.grad(loss, list(decoder.parameters()), allow_unused=True)
    unused = [
        name
        for (name, _), grad in zip(decoder.named_parameters(), grads, strict=True)
        if grad is None
    ]
    assert unused == []


def test_images_of_another_size_give_maps_of_another_size():
    decoder = randomized(UNet(CHANNELS[1:], SIDES[1:], (32, 32)))
    maps = [torch.randn(1, 8, 12, 16), torch.randn(1, 10, 6, 8)]
    assert decoder(decoder.prepare(maps), torch.rand(1, 1, 6, 8)).shape == (1, 2, 48, 64)


def test_different_numbers_of_channels_and_sides_are_refused():
    with pytest.raises(InputError, match="UNet takes one side per map; got 3 maps and 2 sides"):
        UNet(CHANNELS, SIDES[:2], (16, 16))
