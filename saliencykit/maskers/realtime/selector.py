"""Class selector: where the class is in the coarsest feature map, before decoding."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from saliencykit.core.errors import InputError
from saliencykit.core.types import Labels, Logits

_SHARE = 0.37  # of the typical strongest response: where the gate is half open
_MOST_GAIN = 4.0
_STEEP = 3.0  # the gate is sigmoid(3 (r / threshold - 1)): 0.05 at no response


class ClassSelector(nn.Module, ABC):
    """From the coarsest feature map and one class per image to the logit of a gate.

    Attributes:
        num_classes: K.
        trained: Are its weights trained with the network, and not read from the classifier?
    """

    num_classes: int
    trained: bool = False

    @abstractmethod
    def forward(self, coarse: Tensor, labels: Labels) -> Tensor:
        """The logit of the gate, (B, 1, h, w): positive where the class is.

        Args:
            coarse: The coarsest feature map, (B, C, h, w).
            labels: (B,) int64, one class per image.
        """

    @abstractmethod
    def class_logits(self, coarse: Tensor) -> Logits:
        """Logits of the whole image from the filters alone, (B, K); used to warm them up.

        Args:
            coarse: The coarsest feature map, (B, C, h, w).
        """


@final
class ClassFilters(ClassSelector):
    """The paper's feature filter: the scalar product of each position with a vector of the class.

    The gate's logit is `a_ij = scale (X_ij . W_c + b_c - threshold)` with scale and threshold > 0;
    the decoder gets `X * sigmoid(a)`. Where `W` is the weight of the classifier's head, all classes
    are covered, also those that training never showed, and only scale and threshold are needed,
    which `calibrate` sets. Those of exclusive classes are centered over the classes (the softmax
    does not depend on their mean): a response of 0 means no more evidence than for the others.
    Independent labels and scores keep their weights, without the bias, which says how frequent a
    label is or where a scale begins. With a class to contrast, `against`, the filters are
    differences `W_c - W_d`; these respond more weakly, and are amplified up to four times, at most
    to the strongest response of the class alone.

    Args:
        weight: (K, C).
        bias: (K,).
        trained: Are the filters trained and stored with the network? False: they belong to the
            classifier, and are read from it when a file is loaded.
        layer: The name of the classifier's layer that they were read from.
        exclusive: Are the columns exclusive classes, and not labels of their own or scores?

    Raises:
        InputError: The shapes do not match.

    References:
        Dabkowski & Gal 2017, section 4.1, feature filter.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        trained: bool = False,
        layer: str | None = None,
        exclusive: bool = True,
    ) -> None:
        super().__init__()
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise InputError(
                f"ClassFilters: expected weight (K, C) and bias (K,); got {tuple(weight.shape)} "
                f"and {tuple(bias.shape)}."
            )
        self.num_classes, self.trained, self.layer = len(weight), trained, layer
        self.against: int | None = None
        self.exclusive = exclusive
        for name, value in zip(("weight", "bias"), self._filters(weight, bias), strict=True):
            if trained:
                self.register_parameter(name, nn.Parameter(value.clone()))
            else:
                self.register_buffer(name, value.clone(), persistent=False)
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float32, device="cpu"))
        self.log_threshold = nn.Parameter(torch.zeros((), dtype=torch.float32, device="cpu"))

    @torch.no_grad()
    def read_from(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weights of a classifier's head.

        Args:
            weight: (K, C).
            bias: (K,).

        Raises:
            InputError: The number of classes or channels differs.
        """
        if weight.shape != self.weight.shape:
            raise InputError(
                f"the model's head has {tuple(weight.shape)} (classes, channels), and the masker "
                f"was trained on another model, with {tuple(self.weight.shape)}. Train a masker "
                "for it with fit(model, images)."
            )
        for own, value in zip((self.weight, self.bias), self._filters(weight, bias), strict=True):
            own.copy_(value)

    def _filters(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        if self.exclusive:
            return weight - weight.mean(0), bias - bias.mean()
        return weight, torch.zeros_like(bias)

    def responses(self, coarse: Tensor, labels: Labels) -> Tensor:
        """`X . W_c + b_c` at each position, (B, 1, h, w).

        Args:
            coarse: (B, C, h, w).
            labels: (B,) int64.
        """
        # einsum takes twice as long
        products = torch.bmm(self.weight[labels][:, None], coarse.flatten(2))
        return (products + self.bias[labels][:, None, None]).view(-1, 1, *coarse.shape[2:])

    def contrasts(self, coarse: Tensor, labels: Labels, against: int) -> Tensor:
        """`X . (W_c - W_d) + b_c - b_d` at each position, amplified; (B, 1, h, w).

        Args:
            coarse: (B, C, h, w).
            labels: (B,) int64.
            against: d, in [0, K).
        """
        own = self.responses(coarse, labels)
        difference = own - self.responses(coarse, torch.full_like(labels, against))
        strongest = [each.amax((1, 2, 3), keepdim=True) for each in (own, difference)]
        gain = strongest[0] / strongest[1].clamp_min(1e-6)
        return difference * gain.clamp(1, _MOST_GAIN)

    def forward(self, coarse: Tensor, labels: Labels) -> Tensor:
        """The logit of the gate; see `ClassSelector.forward`."""
        if self.against is None:
            responses = self.responses(coarse, labels)
        else:
            responses = self.contrasts(coarse, labels, self.against)
        return self.log_scale.exp() * (responses - self.log_threshold.exp())

    def class_logits(self, coarse: Tensor) -> Logits:
        """The mean response of each class."""
        return coarse.mean((2, 3)) @ self.weight.T + self.bias

    @torch.no_grad()
    def calibrate(self, coarse: Tensor, labels: Labels) -> None:
        """Set scale and threshold from the responses of images to their own classes.

        The threshold is 0.37 of the median strongest response, the scale 3 over the threshold: the
        gate is 0.05 without response, 0.5 at the threshold and 0.99 at the typical maximum.

        Args:
            coarse: (B, C, h, w).
            labels: (B,) int64, a class of each image.
        """
        strongest = self.responses(coarse, labels).amax((1, 2, 3)).median().clamp_min(1e-6)
        self.log_threshold.fill_(float((_SHARE * strongest).log()))
        self.log_scale.fill_(float((_STEEP / (_SHARE * strongest)).log()))
