"""Distillation: train a network to reproduce a model's outputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.output import Output
from saliencykit.core.types import Logits, PerImage
from saliencykit.surrogate.masked_images import MaskedImages

_WARMUP = 0.05  # fraction of the steps over which the learning rate rises
_DECAY = 0.02


@final
@dataclass(frozen=True)
class SurrogateStep:
    """What happened in one step.

    Attributes:
        phase: `querying` the model, or `training` on its answers.
        number: Answers so far, or steps; from 1.
        of: All of them.
        loss: KL divergence in nats, for a training step.
    """

    phase: Literal["querying", "training"]
    number: int
    of: int
    loss: float = float("nan")


def distill(
    student: TorchBlackBox,
    images: MaskedImages,
    answers: Logits,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    on_step: Callable[[SurrogateStep], None],
) -> None:
    """Minimize `KL(model || student)` over the images with AdamW, of independent labels the sum
    over labels; the network changes in place.

    Args:
        student: The network with its pixel statistics, on the device where it is trained.
        images: What the model was queried with.
        answers: Its logits, (Q, K).
        steps: Training steps.
        batch_size: Images per step, >= 2.
        lr: Peak learning rate: it rises over the first twentieth and falls to 0 along a cosine.
        seed: Random seed of the order.
        on_step: Called with each step.

    Raises:
        InputError: The network does not return one number per class.
        SaliencyKitError: The loss was not finite.

    References:
        Jethani et al. 2022, "FastSHAP", section 3.2 and appendix; Hinton et al. 2015, "Distilling
        the Knowledge in a Neural Network".
    """
    network, device = student.model, student.device
    parameters = [p for p in network.requires_grad_(True).parameters() if p.is_floating_point()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=_DECAY)
    generator = Generator().manual_seed(seed)
    batch_size = min(batch_size, len(images))
    order = torch.empty(0, dtype=torch.int64, device="cpu")
    network.train()
    for step in range(steps):
        while len(order) < batch_size:
            order = torch.cat(
                [order, torch.randperm(len(images), generator=generator, device="cpu")]
            )
        index, order = order[:batch_size], order[batch_size:]
        for group in optimizer.param_groups:
            group["lr"] = lr * _schedule((step + 1) / steps)
        logits = _forward(student, images.images(index).to(device))
        if logits.shape != (batch_size, answers.shape[1]):
            raise InputError(
                f"the network returned shape {tuple(logits.shape)} for {batch_size} images of "
                f"{answers.shape[1]} classes."
            )
        loss = divergence(logits.float(), answers[index].to(device), student.output).mean()
        if not math.isfinite(value := float(loss.detach())):
            raise SaliencyKitError(
                f"the loss was not finite at step {step + 1} of {steps}; lower lr (it is {lr})."
            )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        on_step(SurrogateStep("training", step + 1, steps, value))
    optimizer.zero_grad(set_to_none=True)
    network.eval().requires_grad_(False)


def divergence(student: Logits, model: Logits, output: Output) -> PerImage:
    """`KL(model || student)` in nats, (B,); the sum over labels if they are independent.

    Args:
        student: Logits, (B, K).
        model: Logits, (B, K).
        output: What a column means, `softmax` or `sigmoid`.

    Example:
        >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2), "sigmoid").item()
        0.0
    """
    if output == "softmax":
        ours, theirs = F.log_softmax(student, 1), F.log_softmax(model, 1)
        return (theirs.exp() * (theirs - ours)).sum(1)
    yes = model.sigmoid() * (F.logsigmoid(model) - F.logsigmoid(student))
    no = (-model).sigmoid() * (F.logsigmoid(-model) - F.logsigmoid(-student))
    return (yes + no).sum(1)


def _forward(student: TorchBlackBox, images: Tensor) -> Tensor:
    """Logits in training mode, in which a black box never is."""
    mean, std = (
        images.new_tensor(numbers or ()).view(1, -1, 1, 1)
        for numbers in (student.mean, student.std)
    )
    logits = student.model((images - mean) / std)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError(
            f"a surrogate's network returns logits (B, K); {type(student.model).__name__} returned "
            f"{type(logits).__name__}."
        )
    return logits


def _schedule(progress: float) -> float:
    return min(1.0, progress / _WARMUP) * 0.5 * (1 + math.cos(math.pi * progress))
