"""randomized(): a copy of a classifier with random weights."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, one_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.types import Images
from saliencykit.networks.module_calls import one_call, record_calls
from saliencykit.networks.module_layers import get_layer
from saliencykit.networks.private_copy import private_copy

_MAX_IMAGES = 64  # for measuring the spread of the logits

Randomize: TypeAlias = Literal["head", "weights"]


def randomized(
    black_box: BlackBox, images: Images, randomize: Randomize = "head", seed: int = 0
) -> TorchBlackBox:
    """A copy of a classifier with random weights; the classifier itself is only read.

    The values of each parameter are permuted, which keeps their distribution, so that signals
    neither vanish nor explode. The last layer's weights are then scaled, and its bias shifted, so
    that over the given images every class has the same mean logit and the logits vary as they did:
    otherwise one class would win everywhere, and the constant predictions of a random head could
    not be explained.

    Args:
        black_box: A torch model.
        images: (N, C, H, W), some images to measure how much logits vary.
        randomize: `head`: the last linear or convolutional layer only; the features are the learned
            ones, and which of them supports which class is random. `weights`: all parameters; the
            running statistics of batch norms stay.
        seed: Random seed.

    Raises:
        InputError: The black box is not a torch model, cannot be copied, has no such layer, or its
            randomized copy has no finite logits.

    Example:
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network()), torch.rand(4, 3, 16, 16)
        >>> twin = randomized(black_box, images, "head")
        >>> first, last = ((twin.model[i].weight == black_box.model[i].weight) for i in (0, -1))
        >>> bool(first.all()), bool(last.all())
        (True, False)

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3, the model parameter
        randomization test, which redraws the weights where we permute them.
    """
    if not isinstance(black_box, TorchBlackBox):
        raise InputError(
            f"{name_of(black_box)} has no torch weights that could be randomized in a copy; pass "
            "random_model=, a model of the same task with random weights or one that learned "
            "shuffled labels."
        )
    one_of("randomized", ("head", "weights"), randomize=randomize)
    try:
        model = private_copy(black_box.model, clone="all")
    except Exception as error:
        raise InputError(
            f"{name_of(black_box.model)} cannot be copied ({name_of(error)}: {error}); pass "
            "random_model=."
        ) from error
    twin = replace(black_box, model=model)
    images = images[:: max(1, len(images) // _MAX_IMAGES)][:_MAX_IMAGES].to(black_box.device)
    generator = Generator().manual_seed(seed)
    with torch.no_grad():
        head = _head(twin, images)
        if randomize == "head" and head is None:
            raise InputError(
                f"{name_of(model)} has no linear or convolutional layer as its head; use "
                "randomize='weights'."
            )
        chosen = model if head is None or randomize == "weights" else head
        _permute(chosen.parameters(), generator)
        try:
            if head is not None:
                _match(head, twin, black_box(images), images)
            twin(images)
        except SaliencyKitError as error:
            raise InputError(
                f"{name_of(model)} with random weights has no finite logits: {error} Use "
                "randomize='head', or pass random_model=."
            ) from error
    return twin


def _head(black_box: TorchBlackBox, images: Images) -> nn.Linear | nn.Conv2d | None:
    """The last linear or convolutional layer that is called."""
    _, calls = record_calls(black_box, one_call(black_box, images, 2))
    layers = (get_layer(black_box.model, call.name) for call in reversed(calls))
    return next((layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)), None)


def _permute(parameters: Iterable[Tensor], generator: Generator) -> None:
    for values in parameters:
        flat = values.detach().flatten()
        order = torch.randperm(len(flat), generator=generator, device="cpu").to(flat.device)
        values.copy_(flat[order].view_as(values))


def _match(head: nn.Linear | nn.Conv2d, twin: BlackBox, wanted: Tensor, images: Images) -> None:
    """Scale and shift the random head so that its logits vary as much as `wanted`, with one mean
    for all classes.
    """
    found = twin(images)
    if len(images) < 2 or found.shape[1] < 2:
        return
    spread = [float((logits - logits.mean(0)).std()) for logits in (wanted, found)]
    if not min(spread) > 0:
        return
    scale = spread[0] / spread[1]
    head.weight.mul_(scale)
    if head.bias is not None:
        head.bias.mul_(scale)
    mean = scale * found.mean(0)
    if isinstance(head, nn.Linear) and head.out_features == found.shape[1]:
        if head.bias is None:
            head.bias = nn.Parameter(torch.zeros_like(head.weight[:, 0]), requires_grad=False)
        head.bias.sub_(mean - mean.mean())
