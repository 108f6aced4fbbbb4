"""Guided backpropagation, deconvolution and guided Grad-CAM: a modified gradient at every ReLU."""

from dataclasses import dataclass
from typing import final

from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.pixel_attribution import (
    PixelAttribution,
    batch_size_of,
    input_gradient,
)
from saliencykit.maskers.gradient.rectifier_rules import (
    RectifierRules,
    ReluRule,
    activations_without_rule,
)


@final
@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(PixelAttribution):
    """The gradient of the label's logit, with a rectified gradient at every ReLU.

    One forward and one backward pass. Sharp, and nearly the same for every label: it shows edges
    that the network reads rather than evidence for a label (Nie et al. 2018). Multiply it with
    Grad-CAM, or use it as a baseline.

    The rule holds at every ReLU and ReLU6 that the model computes: a module or a function, in place
    or shared, `clamp(min=0)`, `maximum`, `where(x > 0, x, 0)` or `x * (x > 0)`; see `Rectifiers`.
    Where every ReLU is a module with an input of its own, the results are Captum's. Models with
    other activations (GELU, SiLU, also written by hand, as `x * sigmoid(x)` or `log1p(exp(x))`) are
    refused: the rule is not defined there, and without a rule the result would be the plain
    gradient. It passes tanh and sigmoid, which rectify nothing, as they are.

    Args:
        rule: `guided`: a gradient passes a ReLU where it is positive and the ReLU's input was
            positive. `deconvolution`: where it is positive.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: `rule` is unknown; or the model has no ReLU that can be intercepted, or another
            activation.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> masker = RectifiedGradient()
        >>> masker(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1; Zeiler & Fergus
        2014, "Visualizing and Understanding Convolutional Networks", section 2.1, for
        deconvolution; Nie et al. 2018, "A Theoretical Explanation for Perplexing Behaviors of
        Backpropagation-based Visualizations".
    """

    rule: ReluRule = "guided"

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The rectified gradient, (B, C, H, W)."""

        def query(inputs: Images) -> Logits:
            with RectifierRules(self.rule) as rules:
                logits = black_box(inputs)
            others = activations_without_rule(logits) or rules.others
            if logits.requires_grad and (others or not rules.count):
                what = f"also has {', '.join(sorted(others))}" if others else "calls no ReLU"
                raise InputError(
                    "guided backpropagation and deconvolution are rules for ReLUs, and "
                    f"{name_of(black_box.module or black_box)} {what}. Use masker='gradient', "
                    "'integrated-gradients' or 'smoothgrad', which work with any activation."
                )
            return logits

        who = f"RectifiedGradient of {name_of(black_box)}"
        return input_gradient(query, images, labels, batch_size_of(black_box, images), who)


@final
@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(PixelAttribution):
    """Guided backpropagation times Grad-CAM: fine edges on the label's object.

    Two forward passes and one backward pass. The factor is the positive part of Grad-CAM, upsampled
    bilinearly.

    Args:
        layer: See `GradCam`.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: The model has no ReLU or another activation, or Grad-CAM finds no layer.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> GuidedGradCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """

    layer: str | None = None

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The product, (B, C, H, W)."""
        output = GradCam(layer=self.layer).mask(black_box, images, labels, generator)
        coarse = output.attributions
        assert coarse is not None
        fine = RectifiedGradient().attribution(black_box, images, labels, generator)
        return fine * place_maps(coarse.clamp_min(0), images.shape[2:], output.offset)


def guided_backprop() -> RectifiedGradient:
    """Guided backpropagation; see `RectifiedGradient`.

    Example:
        >>> guided_backprop().rule
        'guided'

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1.
    """
    return RectifiedGradient(rule="guided")


def deconvolution() -> RectifiedGradient:
    """Deconvolution: what a deconvolutional network reconstructs from the logit; see
    `RectifiedGradient`.

    Example:
        >>> deconvolution().rule
        'deconvolution'

    References:
        Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1.
    """
    return RectifiedGradient(rule="deconvolution")
