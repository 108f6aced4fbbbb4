"""An attribution method of Captum bound to one black box."""

import inspect
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.optional_packages import required
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.core.visible_text import first_line
from saliencykit.maskers.gradient.pixel_attribution import baseline_pixel, batch_size_of
from saliencykit.networks.private_copy import with_private_module
from saliencykit.networks.target_layer import find_target_layer

# Captum's names for the batch size of methods that make their own batches
_BATCH_OPTIONS = ("internal_batch_size", "perturbations_per_eval")
# these change only modules that are an nn.ReLU
_RELU_METHODS = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")
_globals = threading.RLock()  # torch's seed and Python's list of warning filters


@final
class BoundMethod:
    """An attribution method that attributes the logits of one black box.

    Args:
        factory: A class of `captum.attr`, or a function that makes an attribution of a forward
            function.
        black_box: The classifier; its module is left alone.
        images: As the black box takes them; their size counts.
        layer: For methods that take one. None: see `find_target_layer`.

    Attributes:
        name: The name of the method, for errors.

    Raises:
        InputError: The method needs a module, a layer or ReLUs, and the black box has none.
    """

    def __init__(
        self, factory: Any, black_box: BlackBox, images: Images, layer: str | None
    ) -> None:
        names = arguments(factory)
        if black_box.module is not None and {"model", "layer"} & set(names):
            black_box = with_private_module(black_box)  # for the hooks of the method
        self._black_box, self._baseline = black_box, baseline_pixel(black_box, images)
        self.name = factory.__name__ if isinstance(factory, type) else checks.name_of(factory)
        if "attribution_method" in names:
            raise InputError(
                "NoiseTunnel wraps another attribution; write method=lambda f: "
                "NoiseTunnel(Saliency(f))."
            )
        if layer is not None and "layer" not in names:
            raise InputError(f"{self.name} takes no layer; got layer={layer!r}.")
        module = black_box.module
        forward: Any = self.forward
        if "model" in names:
            forward = _Module(self.forward, self._readable(module))
        self._feature_map, layers = None, []
        if "layer" in names:
            self._feature_map = find_target_layer(black_box, images, layer)
            layers = [self._readable(module).get_submodule(self._feature_map.name)]
        self._method = factory(forward, *layers)
        self._names, self._kind = arguments(self._method.attribute), type(self._method).__name__

    def __call__(self, images: Images, labels: Labels, options: Mapping[str, Any]) -> Tensor:
        """The attribution of some images, (b, C, h, w)."""
        given: dict[str, Any] = {}
        if self._kind != "LayerFeatureAblation":  # it does not repeat targets that differ by row
            size = batch_size_of(self._black_box, images)
            given = {name: size for name in _BATCH_OPTIONS if name in self._names}
        given |= options
        if "target" in self._names or "kwargs" in self._names:
            given["target"] = labels
        try:
            with warnings.catch_warnings():
                # that it sets hooks, and that inputs now require gradients
                warnings.filterwarnings("ignore", module=r"captum\.")
                result = self._method.attribute(images - self._baseline, **given)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.name} raised {type(error).__name__} on {checks.name_of(self._black_box)}: "
                f"{first_line(error)}."
            ) from error
        return self._as_maps(result, images)

    def forward(self, inputs: Tensor) -> Logits:
        """The logits of differences from the color that normalization maps to 0."""
        images = inputs + self._baseline
        if torch.is_grad_enabled() and not images.requires_grad:
            images.requires_grad_()  # methods hook gradients of layers, and weights have none
        return self._black_box(images)

    def has_rows(self, option: str, value: object, count: int) -> bool:
        """Does this option hold one row per image?

        Baselines of the SHAP methods are samples to draw from, whatever their number.
        """
        samples = option == "baselines" and self._kind.endswith(("GradientShap", "DeepLiftShap"))
        return isinstance(value, Tensor) and value.ndim > 0 and len(value) == count and not samples

    def _readable(self, module: nn.Module | None) -> nn.Module:
        """The module, if there is one that the method can read."""
        if module is None:
            raise InputError(
                f"{self.name} reads the layers of a model, and {checks.name_of(self._black_box)} "
                "does not expose submodules. Use masker='gradient' or 'integrated-gradients', "
                "which need gradients only, or 'rise' or 'occlusion', which need no gradients."
            )
        if self.name in _RELU_METHODS and not any(isinstance(m, nn.ReLU) for m in module.modules()):
            raise InputError(
                f"{self.name} of Captum changes only modules that are an nn.ReLU, and "
                f"{checks.name_of(module)} has none: it would return the plain gradient. Use "
                "masker='guided-backprop', 'deconvolution' or 'guided-grad-cam', which also handle "
                "functional ReLUs."
            )
        return module

    def _as_maps(self, result: object, images: Images) -> Tensor:
        """The method's result as maps over the images, checked."""
        if isinstance(result, tuple) and len(result) == 1:
            (result,) = result
        if not isinstance(result, Tensor):
            got = checks.name_of(result)
            got += f" of {len(result)}" if isinstance(result, tuple) else ""
            raise ContractError(
                f"{self.name}.attribute returned {got}; expected one tensor, one row per image."
            )
        result, read = result.detach(), self._feature_map
        if bad := checks.finite_rows(result):
            raise ContractError(
                f"{self.name}.attribute returned NaN or infinite values in row {bad[0]} of "
                f"{len(images)}."
            )
        if read is not None and read.layout != "maps" and result.shape[-1] == read.channels:
            return read.read(result, images.shape[2:])
        sides = [tuple(images.shape[2:])]
        if read is not None and read.layout == "maps":
            sides.append(read.side)
        if len(result) == len(images) and result.ndim == 4 and tuple(result.shape[2:]) in sides:
            return result
        where = "" if read is None else f" for layer {read.name!r} ({read.layout})"
        hint = (
            " Use masker='grad-cam', which handles tokens." if self.name == "LayerGradCam" else ""
        )
        raise InputError(
            f"{self.name}.attribute returned shape {tuple(result.shape)}{where}, which is not a "
            f"map over images of shape {tuple(images.shape)}.{hint}"
        )


@final
class _Module(nn.Module):
    """The black box as a module, for methods that hook the layers of a model."""

    def __init__(self, query: Callable[[Tensor], Logits], inner: nn.Module) -> None:
        super().__init__()
        self.query, self.inner = query, inner

    def forward(self, inputs: Tensor) -> Logits:
        return self.query(inputs)


def captum_class(name: str) -> Any:
    """A class of `captum.attr` by name.

    Raises:
        InputError: Captum is not installed, or has no such class.
    """
    attr = required("captum.attr", "AttributionMasker", "captum")
    kind = getattr(attr, name, None)
    if not (isinstance(kind, type) and hasattr(kind, "attribute")):
        similar = [n for n in dir(attr) if n.lower().startswith(name.lower()[:3])]
        raise InputError(
            f"captum.attr has no attribution method {name!r}; it has "
            f"{', '.join(similar or ['Saliency', 'IntegratedGradients', 'DeepLift'])}, ... ."
        )
    return kind


def arguments(function: Any) -> tuple[str, ...]:
    """The names of a class's or function's arguments; `kwargs` where it takes any."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


@contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states of torch, numpy and Python inside, and restore them after; one
    thread at a time.

    Args:
        seed: The seed.
        device: That computes.
    """
    with _globals:
        python, numpy = random.getstate(), np.random.get_state(legacy=False)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)
                yield
            finally:
                random.setstate(python)
                np.random.set_state(numpy)
