"""Surrogate: a differentiable stand-in for a box that can only be queried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from saliencykit.black_boxes.infer_preprocessing import Preprocessing
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, eq=False)
class Surrogate(BlackBox):
    """A network that was taught to answer like a box, on whole and on masked pictures: made by
    `fit_surrogate`, read by `load`.

    It takes what that box takes, with the same classes, and has gradients and feature maps:
    `fit(surrogate, pictures)` trains a masker on it. It is only as good as `facts["fidelity"]`
    says, and only on pictures like those it learned from: ask the box itself in the end
    (`OnSurrogate` finds the mask here, and `explain` checks it there).

    Args:
        black_box: The network with its pixel statistics.
        num_classes: K, as the box's.
        input_size: Height and width of the pictures it was taught with.
        class_names: As the box's.
        baseline_color: As the box's.
        preprocessing: How the box prepares pictures, where that is known.
        architecture: How a file says what the network is.
        facts: Of `fit_surrogate`: `queries` spent, `fidelity` with the box, whether it is
            `large`, and settings.
        prepared_by: The box, where only itself knows how it prepares pictures.

    Example:
        >>> from saliencykit.black_boxes.surrogate_network import make_network
        >>> network, architecture, _ = make_network("own", 5, (32, 32), 3)
        >>> black_box = TorchBlackBox(network, mean=(0.5,) * 3, std=(0.25,) * 3, size=32)
        >>> Surrogate(black_box, 5, (32, 32), architecture=architecture)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 5])

    References:
        Frye et al. 2021, "Shapley explainability on the data manifold", section 3.2; Jethani et al.
        2022, "FastSHAP", section 2.
    """

    black_box: TorchBlackBox
    num_classes: int
    input_size: tuple[int, int]
    class_names: Sequence[str] | None = field(default=None, repr=False)
    baseline_color: tuple[float, ...] | None = None
    preprocessing: Preprocessing | None = field(default=None, repr=False)
    architecture: Mapping[str, Any] = field(default_factory=dict, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    prepared_by: BlackBox | None = field(default=None, repr=False)

    differentiable = True

    def __repr__(self) -> str:
        """The network, and what it stands for."""
        return f"Surrogate({type(self.module).__name__}, of {self.facts.get('black_box', 'a black_box')})"

    @property
    def max_batch_size(self) -> int | None:  # type: ignore[override]
        """Of the network."""
        return self.black_box.max_batch_size

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Of the network."""
        return self.black_box.device

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.black_box.model

    @property
    def module(self) -> nn.Module:  # type: ignore[override]
        """The network."""
        return self.black_box.module

    @property
    def source_module(self) -> nn.Module:
        """The network itself, for a frozen copy too."""
        return self.black_box.source_module

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """As the box does.

        Raises:
            InputError: The box takes tensors only, or the surrogate came from a file and only the
                box knows how.
        """
        if self.preprocessing is not None:
            return self.preprocessing(picture)
        if self.prepared_by is not None:
            return self.prepared_by.prepare(picture)
        return super().prepare(picture)

    def optimized_for(self, images: Images) -> "Surrogate":
        """With a frozen copy of the network; see `TorchBlackBox.optimized_for`."""
        frozen = self.black_box.optimized_for(images)
        return self if frozen is self.black_box else replace(self, black_box=frozen)

    def logits(self, images: Images) -> Logits:
        """The network's answer."""
        return self.black_box.logits(images)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a JSON header; see `surrogate_file.save_surrogate`.

        Args:
            path: The file, `.safetensors`; one that is there is replaced at once or not at all.

        Returns:
            The path.

        Raises:
            InputError: The name does not end in .safetensors.
            SaliencyKitError: The file cannot be written.
        """
        from saliencykit.black_boxes.surrogate_file import save_surrogate

        return save_surrogate(self, Path(path).expanduser())

    @staticmethod
    def load(
        path: str | Path, black_box: BlackBox | None = None, *, network: nn.Module | None = None
    ) -> "Surrogate":
        """Read what `save` wrote; see `surrogate_file.load_surrogate`.

        Args:
            path: The file.
            black_box: What it stands for; only needed where nobody else knows how it prepares pictures.
            network: For a surrogate that was a module of your own: one of the same shapes; it is
                copied.

        Raises:
            InputError: The file is not a surrogate that this version reads, or the network does not
                fit.
        """
        from saliencykit.black_boxes.surrogate_file import load_surrogate

        return load_surrogate(Path(path).expanduser(), black_box, network=network)
