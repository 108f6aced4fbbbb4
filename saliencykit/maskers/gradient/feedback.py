"""Feedback: neurons that do not help the class are switched off, and the picture is looked at
again.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, whole_numbers
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.module_layers import eager
from saliencykit.networks.tolerance import close_to_rounding

_GATED = {
    "relu", "relu6", "hardtanh", "threshold", "leaky_relu", "rrelu", "prelu", "elu", "celu", "selu", "silu", "hardswish", "gelu",
    "mish", "softplus", "max_pool1d", "max_pool2d", "max_pool3d",
}  # fmt: skip
_INSTEAD = (
    "masker='rise' or 'occlusion', which only ask, or 'iterative', which needs gradients alone"
)


@final
@dataclass(frozen=True, kw_only=True)
class Feedback(Masker):
    """The gradient of the label's logit through a network in which only neurons that help this
    label are left.

    Every rectifier and maximum gets a gate of 0 or 1, `y = z * relu(x)`, and the gates are chosen
    to maximise

        logit_c(picture, z) - price * number of open gates.

    One sweep goes from the logit down: at each layer, given the gates above, an open gate adds `y *
    d logit / d y`, so it stays open if that is more than the price, else it is closed and passes no
    gradient on. Then the picture runs up through what is left, which changes what the neurons above
    see, and so on until the gates settle. The first sweep alone is guided backpropagation.

    A gate that was closed stays closed. Gates that may open again reach higher logits but never
    settle (23 % change in each sweep of MobileNetV2, even the tenth), and point to the object less:
    37 % of the map in the objects' boxes against 56 % (40 photos of ImageNet's validation set, 31 %
    of whose area is in boxes).

    The scores are the largest absolute gradient over the colours, the mask is the same divided by
    its maximum. Fine-grained and specific to the class; speckled, as gradients are, so a box wants
    a low threshold. Costs an evaluation with gradient per sweep.

    Activations that are no rectifiers (GELU, SiLU) are gated by the same rule, which is our
    extension; attention is not gated.

    Args:
        iterations: At most so many, >= 1; MobileNetV2's gates settle in about 7.
        neuron_cost: Of an open gate, in units of the logit, >= 0.
        tolerance: Finished when at most this share of the neurons that are not zero changed their
            gates in a sweep, in [0, 1).
        batch_size: How many pictures at once, >= 1. A gate depends on the sign of a sum, and sums are
            rounded differently in batches of different sizes, so a map is the same on its own and
            in a batch only if this is 1. None: 1 on a CPU, where larger batches are hardly faster;
            elsewhere as many as the box's micro-batch.

    Raises:
        InputError: A number is out of range, the box shows no torch module, or the model has
            nothing to gate.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> conv, head = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Linear(8 * 225, 4)
        >>> black_box = TorchBlackBox(torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), head), size=32)
        >>> Feedback()(black_box, torch.rand(2, 3, 32, 32), torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 32, 32])

    References:
        Cao et al. 2015, "Look and Think Twice: Capturing Top-Down Visual Attention with Feedback
        Convolutional Neural Networks", section 3: gates and objective; the sweep stands for their
        ascent on relaxed gates. Colours: Simonyan et al. 2014, "Deep Inside Convolutional
        Networks", section 3.1.
    """

    iterations: int = 10
    neuron_cost: float = 0.0
    tolerance: float = 0.001
    batch_size: int | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        whole_numbers(self, "iterations", *([] if self.batch_size is None else ["batch_size"]))
        if not 0 <= self.neuron_cost < float("inf") or not 0 <= self.tolerance < 1:
            raise InputError(
                f"Feedback(neuron_cost={self.neuron_cost}, tolerance={self.tolerance}): neuron_cost is >= 0, "
                "tolerance in [0, 1)."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The size of the gradient through the gates that settled, and the same over its maximum as
        the mask.
        """
        if black_box.module is None:
            raise InputError(
                f"Feedback gates the neurons of a torch module, and {name_of(black_box)} shows "
                f"none. Use {_INSTEAD}."
            )
        black_box = black_box.optimized_for(images)
        with torch.no_grad():
            plain = black_box(images[:1])
        step = min(
            self.batch_size or (1 if images.device.type == "cpu" else micro_batch(black_box)),
            black_box.max_batch_size or len(images),
        )
        parts = zip(torch.split(images, step), torch.split(labels, step), strict=True)
        slopes = [
            self._slopes(black_box, some, asked, plain if index == 0 else None)
            for index, (some, asked) in enumerate(parts)
        ]
        scores = torch.cat(slopes).abs().amax(1, keepdim=True)
        return MaskerOutput(mask_from_attributions(scores), scores)

    def _slopes(
        self, black_box: BlackBox, images: Images, labels: Labels, plain: Logits | None
    ) -> Tensor:
        """The gradient through the settled gates; a picture whose gates have settled takes no part
        in the next sweep.
        """
        found, going = torch.zeros_like(images), torch.arange(len(images), device=images.device)
        gates: list[Tensor] = []
        for _ in range(self.iterations):
            pictures = images[going].detach().requires_grad_()
            sweep = _Sweep(gates, self.neuron_cost)
            with torch.enable_grad(), eager(black_box), sweep:
                logits = black_box(pictures)
            if plain is not None:
                _as_without(logits, plain, sweep, black_box)
                plain = None
            chosen = logits.gather(1, labels[going, None]).sum()
            found[going] = torch.autograd.grad(chosen, pictures)[0]
            moving = sweep.moved(len(going)) > self.tolerance
            if not bool(moving.any()):
                break
            going, gates = going[moving], [gate[moving] for gate in sweep.chosen()]
        return found


def _as_without(logits: Logits, plain: Logits, sweep: "_Sweep", black_box: BlackBox) -> None:
    who = name_of(black_box.module)
    if not sweep.neurons:
        raise InputError(
            f"{who} has no rectifier, maximum or other activation that Feedback could gate. Use "
            f"{_INSTEAD}."
        )
    if not close_to_rounding(
        logits[:1], plain
    ):  # with all gates open the model must answer as it does without any
        raise InputError(
            f"{who} changes activations in place in a way that Feedback cannot follow. Use "
            f"{_INSTEAD}."
        )


@final
@dataclass
class _Neurons:
    """One gated layer in one sweep: its answers without gates, the gates they met, and the gates
    chosen on the way down.
    """

    answers: Tensor
    before: Tensor | None
    after: Tensor | None = None


@final
@dataclass
class _Sweep(TorchFunctionMode):
    """Up through the gates of the sweep before (none: all are open), down through new ones."""

    gates: list[Tensor]
    price: float
    neurons: list[_Neurons] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            getattr(func, "__name__", "").strip("_") not in _GATED
            or not args
            or not args[0].requires_grad
        ):
            return func(*args, **kwargs)
        answers = func(args[0] * 1, *args[1:], **kwargs)  # some work in place
        place = len(self.neurons)
        self.neurons.append(_Neurons(answers.detach(), self.gates[place] if self.gates else None))
        return _Gate.apply(answers, self.neurons[-1], self.price)

    def chosen(self) -> list[Tensor]:
        """The gates that came out; of a layer that the logit does not reach, closed ones."""
        return [
            torch.zeros_like(n.answers, dtype=torch.bool) if n.after is None else n.after
            for n in self.neurons
        ]

    def moved(self, count: int) -> Tensor:
        """The share of neurons that are not zero whose gate changed, (count,)."""
        changed, alive = torch.zeros(count), torch.zeros(count)
        for neurons, after in zip(self.neurons, self.chosen(), strict=True):
            active = neurons.answers != 0
            before = active if neurons.before is None else neurons.before
            changed += ((before != after) & active).flatten(1).sum(1).cpu()
            alive += active.flatten(1).sum(1).cpu()
        return (changed / alive.clamp_min(1)).to(self.neurons[0].answers.device)


@final
class _Gate(torch.autograd.Function):
    """Up: the old gate. Down: a new one, open where it was and the neuron is worth more than its
    price.
    """

    @staticmethod
    def forward(ctx: Any, answers: Tensor, neurons: _Neurons, price: float) -> Tensor:
        """The answers of neurons whose gates are open."""
        ctx.neurons, ctx.price = neurons, price
        return answers.clone() if neurons.before is None else answers * neurons.before

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        """The slope, where the new gate is open."""
        neurons: _Neurons = ctx.neurons
        worth = slope * neurons.answers > ctx.price
        neurons.after = worth if neurons.before is None else worth & neurons.before
        return slope * neurons.after, None, None
