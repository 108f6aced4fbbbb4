"""Student: the network of a surrogate, made for the inputs and the classes of its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from saliencykit.black_boxes.preprocessing_inference import infer_preprocessing
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import make_surrogate_network
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import InputError


@final
@dataclass(frozen=True)
class Student:
    """A network for the inputs of a model.

    Args:
        network: As for `fit_surrogate`.
        original: The model.
        shape: Channels, height and width of its inputs.
        device: Computes the network.
    """

    network: str | nn.Module | None
    original: BlackBox
    shape: Sequence[int]
    device: torch.device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the inputs."""
        return self.shape[1], self.shape[2]

    def check(self) -> None:
        """Run the network once before the model is queried, which may cost money.

        Raises:
            InputError: There is no such network, or it does not return logits for these images.
        """
        # not `num_classes`: a model that does not know it would be queried
        classes = len(self.original.class_names) if self.original.class_names else None
        trial, _, _ = make_surrogate_network(self.network, classes or 2, self.size, self.shape[0])
        images = torch.zeros(2, *self.shape, device=self.device, dtype=torch.float32)
        try:
            with torch.no_grad():
                logits = trial.to(self.device).eval()(images)
        except Exception as error:
            raise InputError(
                f"the network {name_of(trial)} fails on images {tuple(images.shape)}: "
                f"{reason_of(error)}"
            ) from error
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else name_of(logits)
        known = isinstance(self.network, nn.Module) and classes is not None
        if not isinstance(shape, tuple) or len(shape) != 2 or (known and shape[1] != classes):
            raise InputError(
                f"a surrogate's network returns logits (B, {classes or 'K'}); {name_of(trial)} "
                f"returned {shape} for images {tuple(images.shape)}."
            )

    def untrained(self, classes: int) -> tuple[TorchBlackBox, dict[str, Any]]:
        """The network to train, as a black box, and its architecture as plain data.

        Args:
            classes: The number of classes.
        """
        network, architecture, statistics = make_surrogate_network(
            self.network, classes, self.size, self.shape[0]
        )
        gray = (0.5,) * self.shape[0]
        mean, std = statistics or (self.original.baseline_color or gray, (0.25,) * self.shape[0])
        options: dict[str, Any] = {"mean": mean, "std": std, "size": self.size}
        output = self.original.output
        return TorchBlackBox(network.to(self.device), output=output, **options), architecture

    def trained(
        self, network: TorchBlackBox, architecture: dict[str, Any], metadata: dict[str, Any]
    ) -> Surrogate:
        """The surrogate, with the class names and the preprocessing of the model.

        Args:
            network: As of `untrained`, trained.
            architecture: As of `untrained`.
            metadata: The facts of the training.
        """
        preprocessing = infer_preprocessing(self.original, self.size, self.shape[0])
        return Surrogate(
            network,
            network.num_classes,
            self.size,
            class_names=self.original.class_names,
            baseline_color=self.original.baseline_color,
            preprocessing=preprocessing,
            architecture=architecture,
            metadata=metadata,
            prepared_by=None if preprocessing is not None else self.original,
        )
