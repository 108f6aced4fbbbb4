"""Surrogate: a differentiable approximation of a black box that can only be queried."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeAlias, final

from msgspec import Meta, Struct, convert, to_builtins
from PIL.Image import Image
from torch import nn

from saliencykit.black_boxes.class_names import check_class_names
from saliencykit.black_boxes.preprocessing_inference import Preprocessing
from saliencykit.black_boxes.surrogate_network import Architecture
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits
from saliencykit.core.visible_text import first_line
from saliencykit.storage.tensor_file import fill, misfits
from saliencykit.storage.typed_json import Count, Facts, Finite, Size
from saliencykit.storage.weights_file import WeightsFile

_Colors: TypeAlias = Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=64)]


class _Known(Struct):
    """What the library reads of the metadata."""

    black_box: str | None = None
    queries: Count | None = None
    fidelity: Facts | None = None


class _Header(Struct):
    network: Architecture
    mean: _Colors | None
    std: _Colors | None
    num_classes: Annotated[int, Meta(ge=1, le=2**20)]
    input_size: Size
    class_names: tuple[str, ...] | None
    baseline_color: _Colors | None
    preprocessing: Preprocessing | None
    metadata: Facts
    output: Output = "softmax"

    def __post_init__(self) -> None:
        convert(self.metadata, _Known)


SURROGATE_FILE = WeightsFile(
    "surrogate",
    1,
    _Header,
    "fit-surrogate",
    "a classifier's weights are named with their model, timm:NAME,checkpoint=FILE, and a trained "
    "masker goes to masker=",
)


def _of_network(name: str) -> Any:
    return property(attrgetter(f"black_box.{name}"))


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

    # as of the network, whose optimized copy has others
    max_batch_size = _of_network("max_batch_size")
    output = _of_network("output")
    device = _of_network("device")
    model = _of_network("model")
    module = _of_network("module")
    source_module = _of_network("source_module")

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
        header, weights = SURROGATE_FILE.read(path)
        where = f"the surrogate in {str(path)!r}"
        module = header.network.build() if network is None else copy.deepcopy(network)
        if network is not None and (problems := misfits(module.state_dict(), weights)):
            raise InputError(
                f"the weights in {str(path)!r} do not fit the {name_of(network)} that was given: "
                f"{problems}."
            )
        fill(module, weights, where)
        try:
            surrogate = _from_header(header, module)
        except (TypeError, ValueError) as error:  # InputError: numbers that do not fit each other
            raise InputError(f"{where} is damaged: {first_line(error)}.") from error
        needs = black_box is not None and surrogate.preprocessing is None
        return replace(surrogate, prepared_by=black_box) if needs else surrogate


def _from_header(header: _Header, module: nn.Module) -> Surrogate:
    size = header.input_size
    check_class_names(header.class_names, header.num_classes, "it")
    return Surrogate(
        TorchBlackBox(
            module.eval().requires_grad_(False),
            mean=header.mean,
            std=header.std,
            size=size,
            output=header.output,
        ),
        header.num_classes,
        size,
        class_names=header.class_names,
        baseline_color=header.baseline_color,
        preprocessing=header.preprocessing,
        architecture=to_builtins(header.network),
        metadata=header.metadata,
    )
