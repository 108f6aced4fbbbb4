"""Surrogate: a differentiable approximation of a black box that can only be queried."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import nn

from saliencykit.black_boxes.preprocessing_inference import Preprocessing
from saliencykit.black_boxes.surrogate_network import network_from_architecture
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits
from saliencykit.storage.weights_file import WeightsFile

SURROGATE_FILE = WeightsFile(
    "surrogate",
    1,
    "surrogate",
    "a classifier's weights are named with their model, timm:NAME,checkpoint=FILE, and a trained "
    "masker goes to masker=",
)


@final
@dataclass(frozen=True, eq=False)
class Surrogate(BlackBox):
    """A network that was distilled from a black box, on whole and on masked images: made by
    `fit_surrogate`, read by `load`.

    It takes what that black box takes, with the same classes, and has gradients and feature maps:
    `fit(surrogate, images)` trains a masker on it. It is only as good as `metadata["fidelity"]`
    says, and only on images like those it was trained on: query the black box itself in the end
    (`OnSurrogate` finds the mask here, and `explain` verifies it there).

    Args:
        black_box: The network with its pixel statistics.
        num_classes: K, as the black box's.
        input_size: Height and width of the training images.
        class_names: As the black box's.
        baseline_color: As the black box's.
        preprocessing: How the black box prepares images, where that is known.
        architecture: How a file describes the network.
        metadata: From `fit_surrogate`: `queries` spent, `fidelity`, whether it is low, settings.
        prepared_by: The black box, where only itself knows how it prepares images.

    Example:
        >>> from saliencykit.black_boxes.surrogate_network import make_surrogate_network
        >>> network, architecture, _ = make_surrogate_network("own", 5, (32, 32), 3)
        >>> black_box = TorchBlackBox(network, mean=(0.5,) * 3, std=(0.25,) * 3, size=32)
        >>> surrogate = Surrogate(black_box, 5, (32, 32), architecture=architecture)
        >>> surrogate(torch.rand(2, 3, 32, 32)).shape
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
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    prepared_by: BlackBox | None = field(default=None, repr=False)

    differentiable = True

    def __repr__(self) -> str:
        """The network, and the black box that it approximates."""
        of = self.metadata.get("black_box", "a black box")
        return f"Surrogate({type(self.module).__name__}, of {of})"

    @property
    def max_batch_size(self) -> int | None:  # type: ignore[override]
        """Of the network."""
        return self.black_box.max_batch_size

    @property
    def output(self) -> Output:  # type: ignore[override]
        """As the black box's."""
        return self.black_box.output

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
        """The network itself, also for an optimized copy."""
        return self.black_box.source_module

    def prepare(self, image: Image) -> tuple[Images, Geometry]:
        """As the black box does.

        Raises:
            InputError: The black box takes tensors only, or the surrogate was loaded from a file
                and only the black box knows the preprocessing.
        """
        if self.preprocessing is not None:
            return self.preprocessing(image)
        if self.prepared_by is not None:
            return self.prepared_by.prepare(image)
        return super().prepare(image)

    def optimized_for(self, images: Images) -> "Surrogate":
        """With an optimized copy of the network; see `TorchBlackBox.optimized_for`."""
        optimized = self.black_box.optimized_for(images)
        return self if optimized is self.black_box else replace(self, black_box=optimized)

    def logits(self, images: Images) -> Logits:
        """The network's logits."""
        return self.black_box.logits(images)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a JSON header; an existing file is replaced atomically.

        Args:
            path: The file, `.safetensors`.

        Returns:
            The path.

        Raises:
            InputError: The name does not end in .safetensors.
            SaliencyKitError: The file cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix != ".safetensors":
            raise InputError(f"a surrogate's file ends in .safetensors; got {str(path)!r}.")
        header = {
            "network": dict(self.architecture),
            "mean": self.black_box.mean,
            "std": self.black_box.std,
            "output": self.output,
            "num_classes": self.num_classes,
            "input_size": self.input_size,
            "class_names": None if self.class_names is None else list(self.class_names),
            "baseline_color": self.baseline_color,
            "preprocessing": None if self.preprocessing is None else asdict(self.preprocessing),
            "metadata": dict(self.metadata),
        }
        SURROGATE_FILE.write(path, self.source_module.state_dict(), header)
        return path

    @staticmethod
    def load(
        path: str | Path, black_box: BlackBox | None = None, *, network: nn.Module | None = None
    ) -> "Surrogate":
        """Read what `save` wrote.

        Args:
            path: The file.
            black_box: The one that the surrogate approximates; only needed where nobody else knows
                how it prepares images.
            network: For a surrogate that was a module of your own: one of the same shapes; it is
                copied.

        Raises:
            InputError: The file is not a surrogate that this version reads, or the network does not
                fit.
        """
        path = Path(path).expanduser()
        header = SURROGATE_FILE.header(path)
        own = copy.deepcopy(network)
        module = network_from_architecture(header["network"]) if own is None else own
        try:
            weights = load_file(path)
            module.load_state_dict(
                {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
            )
            surrogate = _from_header(header, module)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if own is not None and isinstance(error, RuntimeError):
                raise InputError(
                    f"the weights in {str(path)!r} do not fit the {name_of(network)} that was "
                    f"given: {error}"
                ) from error
            raise InputError(
                f"the surrogate in {str(path)!r} is damaged: {type(error).__name__}: {error}."
            ) from error
        needs = black_box is not None and surrogate.preprocessing is None
        return replace(surrogate, prepared_by=black_box) if needs else surrogate


def _from_header(header: Mapping[str, Any], module: nn.Module) -> Surrogate:
    size = (int(header["input_size"][0]), int(header["input_size"][1]))
    mean, std, color = (_floats(header[key]) for key in ("mean", "std", "baseline_color"))
    preprocessing = None
    if (options := header["preprocessing"]) is not None:
        preprocessing = Preprocessing(**options | {"size": size, "fill": _floats(options["fill"])})
    return Surrogate(
        TorchBlackBox(
            module.eval().requires_grad_(False),
            mean=mean,
            std=std,
            size=size,
            output=header.get("output", "softmax"),
        ),
        int(header["num_classes"]),
        size,
        class_names=None if header["class_names"] is None else tuple(header["class_names"]),
        baseline_color=color,
        preprocessing=preprocessing,
        architecture=header["network"],
        metadata=header["metadata"],
    )


def _floats(numbers: Any) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(float(v) for v in numbers)
