"""randomised(): the same classifier with other knowledge, in a copy."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.types import Images
from saliencykit.networks.module_calls import one_call, record_calls
from saliencykit.networks.module_state import unwrap

_SEEN = 64  # pictures that the logits' spread is taken from

What: TypeAlias = Literal["head", "weights"]


def randomized(
    black_box: BlackBox, images: Images, what: What = "head", seed: int = 0
) -> TorchBlackBox:
    """A copy of a classifier whose answers are random; the classifier itself is only read.

    The numbers of each weight change places at random, which keeps their distribution, so that
    signals neither vanish nor explode. Where the last layer is linear its weights are then scaled,
    and its bias shifted, so that over the given pictures every class has the same mean logit and
    the logits vary as they did: else one class would win everywhere, and no mask could be found for
    the flat answers of a random head.

    Args:
        black_box: A torch model.
        images: (N, C, H, W), some pictures to see how much logits vary.
        what: `head`: of the last linear or convolutional layer alone; the features are what was
            learned, and which of them speak for which class is random. `weights`: of all
            parameters; the running statistics of batch norms stay.
        seed: Of the places.

    Raises:
        InputError: The box is no torch model, cannot be copied, has no such layer, or its random
            copy gives no finite answers.

    Example:
        >>> from saliencykit.testing.black_boxes import small_network
        >>> black_box, images = TorchBlackBox(small_network()), torch.rand(4, 3, 16, 16)
        >>> twin = randomized(black_box, images, "head")
        >>> bool((twin.model[-1].weight == black_box.model[-1].weight).all()), bool((twin.model[0].weight == black_box.model[0].weight).all())
        (False, True)

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3, the model parameter
        randomization test, which draws the weights anew where we permute them.
    """
    if not isinstance(black_box, TorchBlackBox):
        raise InputError(
            f"{name_of(black_box)} shows no torch weights that could be randomised in a copy; give "
            "random_box=, a model of the same task with random weights or one that learned "
            "shuffled labels."
        )
    if what not in ("head", "weights"):
        raise InputError(f"what is randomised is 'head' or 'weights'; got {what!r}.")
    try:
        model = copy.deepcopy(unwrap(black_box.model)).requires_grad_(False)
    except Exception as error:
        raise InputError(
            f"{name_of(black_box.model)} cannot be copied ({name_of(error)}: {error}); give random_box=."
        ) from error
    twin = replace(black_box, model=model)
    images = images[:: max(1, len(images) // _SEEN)][:_SEEN].to(black_box.device)
    generator = Generator().manual_seed(seed)
    with torch.no_grad():
        head = _head(twin, images)
        if what == "head" and head is None:
            raise InputError(
                f"no linear or convolutional layer of {name_of(model)} was seen to answer; "
                "randomise 'weights'."
            )
        _permute(
            head.parameters() if head is not None and what == "head" else model.parameters(),
            generator,
        )
        try:
            if head is not None:
                _match(head, twin, black_box(images), images)
            twin(images)
        except SaliencyKitError as error:
            raise InputError(
                f"{name_of(model)} with random weights gives no answers: {error} Randomise "
                "'head', or give random_box=."
            ) from error
    return twin


def _head(black_box: BlackBox, images: Images) -> nn.Linear | nn.Conv2d | None:
    """The last layer with weights that answers."""
    _, calls = record_calls(black_box, one_call(black_box, images, 2))
    layers = (call.module for call in reversed(calls))
    return next((layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)), None)


def _permute(parameters: Iterable[Tensor], generator: Generator) -> None:
    for values in parameters:
        flat = values.detach().flatten()
        values.copy_(
            flat[torch.randperm(len(flat), generator=generator).to(flat.device)].view_as(values)
        )


def _match(head: nn.Linear | nn.Conv2d, twin: BlackBox, wanted: Tensor, images: Images) -> None:
    """Scale and shift the random head so that its logits vary as the wanted ones did, with one mean
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
