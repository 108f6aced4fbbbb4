"""StandIn: a query-only black box as a linear function of a frozen encoder's features."""

import warnings
from typing import Any, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.errors import ReliabilityWarning
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.networks.ridge_probe import ridge_probe
from saliencykit.training.cache import Views

_MASKED = 2  # masked copies of each view
_GRID = 5  # cells per side of their masks
_HELD_OUT = 8  # every eighth view is held out
_CHUNK = 16
_AGREES = 0.8  # as for surrogates
_SHARPER = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@final
class StandIn(BlackBoxWrapper):
    """A classifier that has gradients where the black box has none, for training.

    Args:
        network: The network of an encoder.
        black_box: What it stands in for: its classes and the size of its images.
        input_size: Of the network's images.
        weight: (K, C), of the network's outputs.
        bias: (K,).
    """

    def __init__(
        self,
        network: BlackBox,
        black_box: BlackBox,
        input_size: tuple[int, int],
        weight: Tensor,
        bias: Tensor,
    ) -> None:
        super().__init__(network)
        self.original, self.input_size = black_box, input_size
        self.output, self.class_names = black_box.output, black_box.class_names
        self.baseline_color = black_box.baseline_color
        self.weight, self.bias = weight.to(self.device), bias.to(self.device)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The black box's."""
        return len(self.bias)

    def logits(self, images: Images) -> Logits:
        """Linear in what the network returns for the images at its own size."""
        answer = self.black_box(resize_maps(images, self.input_size))
        return answer @ self.weight.T + self.bias

    def optimized_for(self, images: Images) -> "StandIn":
        """On the optimized copy of the network."""
        network = self.black_box.optimized_for(resize_maps(images, self.input_size))
        return StandIn(network, self.original, self.input_size, self.weight, self.bias)


@torch.no_grad()
def make_stand_in(
    black_box: BlackBox, encoder: PretrainedEncoder, views: Views, alternative: Alternative
) -> tuple[StandIn, dict[str, Any]]:
    """A stand-in, fitted to the black box's logits of views and of their masked copies.

    Args:
        black_box: Is queried three times with each view.
        encoder: Its network is the stand-in's.
        views: Of the training images.
        alternative: What replaces pixels of the masked copies.

    Returns:
        The stand-in, and facts: the number of `queries`, and on every eighth view, which it did not
        see, the `agreement`: the fraction in [0, 1] of what `of` says that it predicts.

    Warns:
        ReliabilityWarning: The agreement is below 80 %, the limit of surrogates.
    """
    seen = encoder.input_size
    every = torch.arange(len(views), device="cpu")
    network = encoder.network.optimized_for(resize_maps(views.images(every[:2]), seen))
    generator = Generator().manual_seed(views.seed)
    outputs, logits = list[Tensor](), list[Tensor]()
    whole, held = list[Tensor](), list[Tensor]()
    for index in torch.split(every, _CHUNK):
        images = views.images(index).to(black_box.device)
        for number in range(1 + _MASKED):
            shown = images if number == 0 else _masked(images, alternative, generator)
            outputs.append(network(resize_maps(shown, seen)).cpu())
            logits.append(black_box(shown).cpu())
            whole.append(torch.full_like(index, number) == 0)
            held.append(index % _HELD_OUT == _HELD_OUT - 1)
    x, y, out = torch.cat(outputs), torch.cat(logits), torch.cat(held)
    weight, bias = ridge_probe(x[~out], y[~out], black_box.output)
    sharper = _sharper(x[out] @ weight.T + bias, y[out]) if black_box.output == "softmax" else 1.0
    weight, bias = sharper * weight, sharper * bias
    some = out & torch.cat(whole)
    facts = {"queries": len(y)} | _agreement(x[some] @ weight.T + bias, y[some], black_box.output)
    if facts["agreement"] < _AGREES:
        warnings.warn(
            "the encoder's features predict {agreement:.0%} of {of}, so the masks may show what "
            "the model does not look at; give more images or another encoder, or train a "
            "surrogate with fit_surrogate.".format(**facts),
            ReliabilityWarning,
            stacklevel=2,
        )
    return StandIn(encoder.network, black_box, seen, weight, bias), facts


def _agreement(answers: Logits, logits: Logits, output: Output) -> dict[str, Any]:
    """How well the stand-in predicts the black box: top classes, or else the variance."""
    if output == "softmax" and logits.shape[1] > 1:
        same = (answers.argmax(1) == logits.argmax(1)).float()
        share = float(same.mean()) if len(same) else 0.0
        return {"agreement": share, "of": "the top classes of held-out images"}
    total = (logits - logits.mean(0)).square().sum()
    rest = (logits - answers).square().sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
    return {
        "agreement": float((1 - rest).clamp_min(0)),
        "of": "the variance of the outputs on held-out images",
    }


def _sharper(answers: Logits, logits: Logits) -> float:
    """By how much to multiply the answers, so that they are closest to the logits' classes: a ridge
    makes all differences smaller.
    """
    wanted = logits.softmax(1)
    losses = [float(-(wanted * (s * answers).log_softmax(1)).sum()) for s in _SHARPER]
    return _SHARPER[losses.index(min(losses))]


def _masked(images: Images, alternative: Alternative, generator: Generator) -> Images:
    """Images of which random cells, from none to all of them, are replaced."""
    shape = (len(images), 1 + _GRID**2)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
    cells = (drawn[:, 1:] < drawn[:, :1]).view(-1, 1, _GRID, _GRID)
    masks = resize_maps(cells.float(), images.shape[2:]).to(images.device)
    return alternative.edit(images, masks, generator)
