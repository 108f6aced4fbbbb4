"""Selector: where in the picture the asked class is, before any decoding."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.core.types import Labels, Logits

_SHARE = 0.37  # of the typical strongest response: where the gate is half open
_STEEP = 3.0  # the gate is sigmoid(3 (r / threshold - 1)): 0.05 at no response


class ClassSelector(nn.Module, ABC):
    """The coarsest feature map and a class per picture to a gate, in logits.

    Attributes:
        num_classes: K.
    """

    num_classes: int

    @abstractmethod
    def forward(self, coarse: Tensor, labels: Labels) -> Tensor:
        """The gate's logit (B, 1, h, w): positive where the class is.

        Args:
            coarse: The coarsest map, (B, C, h, w).
            labels: (B,) int64, one class per picture.
        """

    @abstractmethod
    def class_logits(self, coarse: Tensor) -> Logits:
        """What the rows themselves say of the whole picture, (B, K): for warming them up and for
        diagnosis.

        Args:
            coarse: The coarsest map, (B, C, h, w).
        """


@final
class ClassFilters(ClassSelector):
    """The paper's feature filter: the scalar product of every position with a vector of the class.

    `a_ij = scale (X_ij . W_c + b_c - threshold)` with scale and threshold > 0; the decoder gets `X
    * sigmoid(a)`. If `W` are the classifier head's own rows, every class is covered, those never
    seen in training too, and scale and threshold are set from statistics of the responses: nothing
    has to be learned. Rows are centred over classes (the softmax does not see the difference): a
    response of 0 means no more evidence than for any other class.

    Args:
        weight: (K, C).
        bias: (K,).
        own: Are the rows trained and stored with the network? False: they belong to the black box
            and are read from it again when a file is loaded.
        layer: The name of the head's layer in the black box, where the rows are its own.

    Raises:
        InputError: The shapes do not fit.

    References:
        Dabkowski & Gal 2017, section 4.1, feature filter.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, own: bool = False, layer: str | None = None
    ) -> None:
        super().__init__()
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise InputError(
                f"Rows takes weight (K, C) and bias (K,); got {tuple(weight.shape)} and "
                f"{tuple(bias.shape)}."
            )
        self.num_classes, self.own, self.layer = len(weight), own, layer
        weight, bias = weight - weight.mean(0), bias - bias.mean()
        if own:
            self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        else:
            self.register_buffer("weight", weight.clone(), persistent=False)
            self.register_buffer("bias", bias.clone(), persistent=False)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.log_threshold = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def read_from(self, weight: Tensor, bias: Tensor) -> None:
        """Take the rows of a head, as when it was made.

        Args:
            weight: (K, C).
            bias: (K,).

        Raises:
            InputError: They are of another number of classes or channels.
        """
        if weight.shape != self.weight.shape:
            raise InputError(
                f"the model's head is {tuple(weight.shape)} (classes, channels), and the masker "
                f"was made for {tuple(self.weight.shape)}: another model. Train one with "
                "fit(model, pictures)."
            )
        self.weight.copy_(weight - weight.mean(0))
        self.bias.copy_(bias - bias.mean())

    def responses(self, coarse: Tensor, labels: Labels) -> Tensor:
        """`X . W_c + b_c` at each position, (B, 1, h, w).

        Args:
            coarse: (B, C, h, w).
            labels: (B,) int64.
        """
        # einsum takes twice as long to arrange the same
        found = torch.bmm(self.weight[labels][:, None], coarse.flatten(2))
        return (found + self.bias[labels][:, None, None]).view(-1, 1, *coarse.shape[2:])

    def forward(self, coarse: Tensor, labels: Labels) -> Tensor:
        """The gate's logit; see `ClassSelector.forward`."""
        gate: Tensor = self.log_scale.exp() * (
            self.responses(coarse, labels) - self.log_threshold.exp()
        )
        return gate

    def class_logits(self, coarse: Tensor) -> Logits:
        """Mean response of every class."""
        return coarse.mean((2, 3)) @ self.weight.T + self.bias

    @torch.no_grad()
    def calibrate(self, coarse: Tensor, labels: Labels) -> None:
        """Set scale and threshold from the responses of pictures to their own classes.

        The threshold is 0.37 of the median strongest response, the scale 3 over the threshold: the
        gate is 0.05 where there is no response, 0.5 at the threshold and 0.99 at the typical
        maximum.

        Args:
            coarse: (B, C, h, w).
            labels: (B,) int64, classes that the pictures show.
        """
        strongest = self.responses(coarse, labels).amax((1, 2, 3)).median().clamp_min(1e-6)
        self.log_threshold.fill_(float((_SHARE * strongest).log()))
        self.log_scale.fill_(float((_STEEP / (_SHARE * strongest)).log()))
