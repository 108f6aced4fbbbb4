"""The lesson: a network learns to answer as a box did."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.types import Logits
from saliencykit.surrogate.masked_images import MaskedImages

_WARM = 0.05  # share of the steps over which the learning rate rises
_DECAY = 0.02


@final
@dataclass(frozen=True)
class SurrogateStep:
    """What happened in one step.

    Attributes:
        phase: `asking` the box, or `learning` from its answers.
        number: Answers so far, or steps; from 1.
        of: All of them.
        loss: KL in nats, of a step of learning.
    """

    phase: Literal["asking", "learning"]
    number: int
    of: int
    loss: float = float("nan")


def distill(
    black_box: TorchBlackBox,
    pictures: MaskedImages,
    answers: Logits,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    on_step: Callable[[SurrogateStep], None],
) -> None:
    """Minimise `KL(black_box || surrogate)` over the pictures with AdamW; the network is changed in
    place.

    Args:
        black_box: The network with its pixel statistics, where the pixels are moved to.
        pictures: What the box was asked about.
        answers: What it said, (Q, K).
        steps: Of the optimiser.
        batch_size: Pictures a step, >= 2.
        lr: The largest learning rate: it rises over the first twentieth and falls to 0 along a
            cosine.
        seed: Of the order.
        on_step: Called with each step.

    Raises:
        InputError: The network does not answer with one number per class.
        SaliencyKitError: The loss was not finite.

    References:
        Jethani et al. 2022, "FastSHAP", section 3.2 and appendix; Hinton et al. 2015, "Distilling
        the Knowledge in a Neural Network".
    """
    network, device = black_box.model, black_box.device
    wanted = F.log_softmax(answers, 1)
    parameters = [p for p in network.requires_grad_(True).parameters() if p.is_floating_point()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=_DECAY)
    generator = Generator().manual_seed(seed)
    batch_size = min(batch_size, len(pictures))
    order = torch.empty(0, dtype=torch.int64)
    network.train()
    for step in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(pictures), generator=generator)])
        index, order = order[:batch_size], order[batch_size:]
        for group in optimizer.param_groups:
            group["lr"] = lr * _schedule((step + 1) / steps)
        logits = _answer(black_box, pictures.images(index).to(device))
        if logits.shape != (batch_size, wanted.shape[1]):
            raise InputError(
                f"the network answered with {tuple(logits.shape)} for {batch_size} pictures of "
                f"{wanted.shape[1]} classes."
            )
        loss = F.kl_div(
            F.log_softmax(logits.float(), 1),
            wanted[index].to(device),
            reduction="batchmean",
            log_target=True,
        )
        if not math.isfinite(value := float(loss.detach())):
            raise SaliencyKitError(
                f"the loss was not finite at step {step + 1} of {steps}; lower lr (it is {lr})."
            )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        on_step(SurrogateStep("learning", step + 1, steps, value))
    optimizer.zero_grad(set_to_none=True)
    network.eval().requires_grad_(False)


def _answer(black_box: TorchBlackBox, images: Tensor) -> Tensor:
    """In training mode, which a box never is."""
    mean, std = (
        images.new_tensor(numbers or ()).view(1, -1, 1, 1)
        for numbers in (black_box.mean, black_box.std)
    )
    answer = black_box.model((images - mean) / std)
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        raise InputError(
            f"a surrogate's network returns logits (B, K); {type(black_box.model).__name__} returned "
            f"{type(answer).__name__}."
        )
    return answer


def _schedule(done: float) -> float:
    return min(1.0, done / _WARM) * 0.5 * (1 + math.cos(math.pi * done))
