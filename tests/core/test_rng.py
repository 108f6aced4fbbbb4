import pytest
import torch
from hypothesis import given

from saliencykit.core import rng
from saliencykit.testing.strategies import images
from tests.helpers import seeded


@given(images(batch=3))
def test_equal_images_have_equal_keys(x):
    keys = rng.image_keys(torch.cat([x, x.clone()]))
    assert keys.dtype == torch.int64
    assert torch.equal(keys[:3], keys[3:])
    assert torch.equal(rng.image_keys(x[1:2]), keys[1:2])


def test_different_images_have_different_keys():
    x = torch.rand(500, 3, 8, 8, generator=seeded())
    swapped = x.clone()
    swapped[..., 0, 0], swapped[..., 0, 1] = x[..., 0, 1], x[..., 0, 0]
    nudged = x.clone()
    nudged[:, 0, 0, 0] = torch.nextafter(x[:, 0, 0, 0], torch.tensor(2.0))
    keys = rng.image_keys(torch.cat([x, x.flip(3), x.transpose(2, 3), swapped, nudged, x.flip(1)]))
    assert len(set(keys.tolist())) == 3000


def test_images_of_one_color_have_different_keys():
    colors = torch.linspace(0, 1, 256)[:, None, None, None].expand(256, 3, 16, 16)
    assert len(set(rng.image_keys(colors).tolist())) == 256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_memory_formats(dtype):
    x = torch.rand(2, 3, 6, 5, generator=seeded()).to(dtype)
    assert torch.equal(rng.image_keys(x), rng.image_keys(x.to(memory_format=torch.channels_last)))
    u = rng.uniform(x, (4,), generator=seeded())
    assert u.dtype == dtype
    assert u.shape == (2, 4)


@pytest.mark.parametrize("numbers", [rng.uniform, rng.normal])
def test_a_row_does_not_depend_on_the_batch(numbers):
    x = torch.rand(4, 3, 5, 7, generator=seeded())
    whole = numbers(x, (2, 3), generator=seeded(1))
    assert torch.equal(numbers(x.flip(0), (2, 3), generator=seeded(1)), whole.flip(0))
    for i in range(4):
        assert torch.equal(numbers(x[i : i + 1], (2, 3), generator=seeded(1)), whole[i : i + 1])
    assert len({row.sum().item() for row in whole}) == 4


@pytest.mark.parametrize(
    "numbers", [rng.uniform, rng.normal, lambda x, shape, generator: rng.fork(generator)]
)
def test_the_generator_advances_by_one_number_whatever_the_batch(numbers):
    states = []
    for size in (1, 2, 7):
        g = seeded(3)
        numbers(torch.rand(size, 1, 4, 4), (5,), generator=g)
        states.append(g.get_state())
    expected = seeded(3)
    torch.randint(2**62, (1,), generator=expected)
    assert all(torch.equal(state, expected.get_state()) for state in states)


def test_another_seed_or_a_second_call_gives_other_numbers():
    x, g = torch.rand(1, 3, 4, 4, generator=seeded()), seeded()
    first, second = rng.uniform(x, (8,), generator=g), rng.uniform(x, (8,), generator=g)
    assert not torch.equal(first, second)
    assert not torch.equal(first, rng.uniform(x, (8,), generator=seeded(1)))
    assert torch.equal(first, rng.uniform(x, (8,), generator=seeded(0)))


def test_the_numbers_have_their_distributions():
    x = torch.rand(20, 1, 4, 4, generator=seeded())
    u = rng.uniform(x, (2000,), generator=seeded(), low=-1, high=3)
    assert u.min() >= -1
    assert u.max() < 3
    assert abs(u.mean() - 1) < 0.05
    assert abs(u.std() - 4 / 12**0.5) < 0.05
    n = rng.normal(x, (2000,), generator=seeded(), std=2.0)
    assert abs(n.mean()) < 0.05
    assert abs(n.std() - 2) < 0.05
    rows = torch.corrcoef(n)
    assert (rows - torch.eye(20)).abs().max() < 0.12  # rows are independent of each other


def test_the_global_state_is_neither_read_nor_set():
    x = torch.rand(2, 3, 4, 4, generator=seeded())
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = rng.normal(x, (3,), generator=seeded())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(rng.normal(x, (3,), generator=seeded()), one)


def test_fork_is_reproducible_and_leaves_the_original_usable():
    a, b = rng.fork(seeded()), rng.fork(seeded())
    assert torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b))
    g = seeded()
    assert not torch.equal(
        torch.rand(3, generator=rng.fork(g)), torch.rand(3, generator=rng.fork(g))
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_device_sees_the_same_numbers(dtype):
    x = torch.rand(5, 3, 16, 16, generator=seeded()).to(dtype)
    assert torch.equal(rng.image_keys(x.cuda()), rng.image_keys(x))
    for numbers in (rng.uniform, rng.normal):
        there = numbers(x.cuda(), (7,), generator=seeded(1))
        assert there.device.type == "cuda"
        assert torch.equal(there.cpu(), numbers(x, (7,), generator=seeded(1)))


def test_a_seed_advances_the_generator_by_one_number():
    one, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    first = rng.seed(one)
    assert first == rng.fork(other).initial_seed()
    assert torch.equal(one.get_state(), other.get_state())
    assert rng.seed(one) != first
