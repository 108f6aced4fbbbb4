"""Checkpointed layers and the user's backward hooks make no difference to a mask."""

from threading import Barrier, Thread

import pytest
import torch
import torch.utils.checkpoint as checkpointing
from torch import nn

from saliencykit import explain
from saliencykit.networks.direct_execution import without_checkpointing

MASKERS = [
    "grad-cam",
    "cam",
    "guided-backprop",
    "excitation-backprop",
    "gradient",
    "iterative:steps=2,areas=(0.2,0.2)",
    "extremal-perturbation:steps=2",
]


class Net(nn.Module):
    """Its middle layers are checkpointed, unless `reentrant` is None."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        if self.reentrant is None:
            x = self.body(x)
        else:
            x = checkpointing.checkpoint(self.body, x, use_reentrant=self.reentrant)
        return self.head(self.pool(x).flatten(1))


def pair(reentrant):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = Net().eval()
    other = Net(reentrant).eval()
    other.load_state_dict(plain.state_dict())
    return plain, other


def mask_of(model, masker):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return explain(model, images, 1, masker=masker, verify=False).mask


@pytest.mark.parametrize("masker", MASKERS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_model_gets_the_mask_of_one_that_is_not(reentrant, masker):
    plain, checkpointed = pair(reentrant)
    assert torch.allclose(mask_of(checkpointed, masker), mask_of(plain, masker), atol=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
def test_other_threads_keep_their_checkpoints_and_torch_is_restored(reentrant):
    before = checkpointing.CheckpointFunction
    calls, ready, done = [], Barrier(2), Barrier(2)

    def layer(x):
        calls.append(1)
        return x.exp()

    def other():
        ready.wait()
        x = torch.ones(2, requires_grad=True)
        checkpointing.checkpoint(layer, x, use_reentrant=reentrant).sum().backward()
        done.wait()

    thread = Thread(target=other)
    thread.start()
    with without_checkpointing():
        ready.wait()
        done.wait()
    thread.join()
    assert len(calls) == 2  # again in the backward pass
    assert checkpointing.CheckpointFunction is before


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_the_users_backward_hooks_do_not_change_excitation_backprop(kind):
    plain, hooked = pair(None)
    seen = []

    def hook(module, *gradients):
        seen.append(module)
        return tuple(None if each is None else each * 0 for each in gradients[0])

    for layer in (hooked.body, hooked.body[1], hooked.body[2], hooked.head):
        getattr(layer, kind)(hook)
    expected = mask_of(plain, "excitation-backprop")
    assert torch.equal(mask_of(hooked, "excitation-backprop"), expected)
    assert not seen
    hooked(torch.rand(1, 3, 32, 32)).sum().backward()
    assert seen  # they still work elsewhere
