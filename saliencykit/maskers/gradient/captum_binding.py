"""An attribution method of Captum bound to one black box: what it calls, on which layer, and
nothing left behind.
"""

import copy
import inspect
import random
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
from saliencykit.core.types import Images, Labels
from saliencykit.networks.target_layer import target_layer

# what Captum calls the size of its own batches
_INNER = (
    "internal_batch_size",
    "perturbations_per_eval",
)
# images, or evaluations of one, for a box that names no limit: the graph of all of them is held
_AT_ONCE = 8
# they hook the modules that are an nn.ReLU, and no others
_RELUS = (
    "GuidedBackprop",
    "Deconvolution",
    "GuidedGradCam",
)


@final
class Bound:
    """An attribution method that asks one black box.

    Args:
        method: A class of `captum.attr`, a function that makes an attribution of a forward
            function, or an attribution.
        black_box: The classifier.
        images: As the box takes them; their number and size count.
        layer: For methods that take one. None: see `target_layer`.
        options: Further arguments of `.attribute`.

    Attributes:
        images_at_once: How many images one call takes; 1 for a method that batches by itself.

    Raises:
        InputError: The method needs a module, a layer or ReLUs, and the box has none.
    """

    def __init__(
        self,
        method: Any,
        black_box: BlackBox,
        images: Images,
        *,
        layer: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self._box, self._options, self._size = black_box, dict(options), images.shape[2:]
        zero = (
            (0.0,) * images.shape[1]
            if black_box.baseline_color is None
            else black_box.baseline_color
        )
        self._zero = images.new_tensor(zero).view(1, -1, 1, 1)
        takes = arguments(method)
        if "attribution_method" in takes:
            raise InputError(
                "NoiseTunnel goes around another attribution: give method=lambda f: "
                "NoiseTunnel(Saliency(f))."
            )
        self.name = method.__name__ if isinstance(method, type) else checks.name_of(method)
        wants_layer = "layer" in takes or isinstance(getattr(method, "layer", None), nn.Module)
        if layer is not None and not wants_layer:
            raise InputError(
                f"{self.name} attributes to the input and takes no layer; got layer={layer!r}."
            )
        self._tap = target_layer(black_box, images, layer) if wants_layer else None
        self._object = self._make(method, "model" in takes)
        self._hooked = (
            black_box.module
            if wants_layer or "model" in takes or hasattr(self._object, "model")
            else None
        )
        takes = arguments(self._object.attribute)
        self._labelled = "target" in takes or "kwargs" in takes
        at_once = black_box.max_batch or _AT_ONCE
        inner = {name: at_once for name in _INNER if name in takes and name not in self._options}
        if self.name == "LayerFeatureAblation":
            inner = {}  # Captum's does not repeat targets that differ between rows
        self._options = {**inner, **self._options}
        self.images_at_once = 1 if any(name in takes for name in _INNER) else at_once

    def __call__(
        self, images: Images, labels: Labels, rows: slice | None = None, count: int = 0
    ) -> Tensor:
        """The attribution of some images, (b, C, h, w): of those `rows` of `count`, if options are
        to be dealt out with them.
        """
        inputs = images - self._zero
        options = dict(self._options)
        for key, value in options.items() if rows is not None else ():
            # to draw from, for every image
            several = key == "baselines" and self.name.endswith(("GradientShap", "DeepLiftShap"))
            if isinstance(value, Tensor) and value.ndim and len(value) == count and not several:
                options[key] = value[rows]
        if self._labelled:
            options["target"] = labels
        try:
            with restored(self._hooked), warnings.catch_warnings():
                # that it sets hooks, and that inputs now require gradients
                warnings.filterwarnings("ignore", module=r"captum\.")
                answer = self._object.attribute(inputs, **options)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.name} raised {type(error).__name__} on {checks.name_of(self._box)}: "
                f"{checks.first_line(error)}."
            ) from error
        return self._checked(answer, images)

    def forward(self, inputs: Tensor) -> Tensor:
        """What Captum calls: the logits of differences from the colour that the box's normalisation
        maps to 0.
        """
        return self._box(inputs + self._zero)

    def _make(self, method: Any, wants_model: bool) -> Any:
        module = self._box.module
        base = method if isinstance(method, type) else type(method)
        needs_model = wants_model or isinstance(getattr(method, "model", None), nn.Module)
        if needs_model and module is None:
            raise InputError(
                f"{self.name} reads the layers of a model, and {checks.name_of(self._box)} shows "
                "no torch module. Use masker='gradient' or 'integrated-gradients' (they take "
                "gradients), 'rise' or 'occlusion' (they only ask)."
            )
        if base.__name__ in _RELUS and not any(
            isinstance(m, nn.ReLU) for m in (module.modules() if module is not None else ())
        ):
            raise InputError(
                f"{self.name} of Captum changes the modules that are an nn.ReLU, and "
                f"{checks.name_of(module)} has none: it would return the plain gradient. The "
                "maskers 'guided-backprop', 'deconvolution', 'guided-grad-cam' see functional "
                "ReLUs."
            )
        forward: Any = _Module(self.forward, module) if needs_model else self.forward
        if not (isinstance(method, type) or inspect.isroutine(method)) and hasattr(
            method, "attribute"
        ):
            return _rebound(method, forward, self._layer())
        return method(forward, self._layer()) if self._tap is not None else method(forward)

    def _layer(self) -> nn.Module | None:
        if self._tap is None or self._box.module is None:
            return None
        return self._box.module.get_submodule(self._tap.name)

    def _checked(self, answer: object, images: Images) -> Tensor:
        if isinstance(answer, tuple) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, Tensor):
            came = (
                f"{checks.name_of(answer)} of {len(answer)}"
                if isinstance(answer, tuple)
                else checks.name_of(answer)
            )
            raise ContractError(
                f"{self.name}.attribute returned {came}; expected one tensor, one row per image."
            )
        answer = answer.detach()
        if bad := checks.finite_rows(answer):
            raise ContractError(
                f"{self.name}.attribute returned NaN or infinite values in row {bad[0]} of "
                f"{len(images)}."
            )
        if (
            answer.shape[:1] == images.shape[:1]
            and answer.shape[2:] == self._size
            and answer.ndim == 4
        ):
            return answer
        if (
            self._tap is not None
            and answer.ndim == 4
            and self._tap.layout == "maps"
            and answer.shape[2:] == self._tap.side
        ):
            return answer
        if (
            self._tap is not None
            and answer.shape[-1] == self._tap.channels
            and self._tap.layout != "maps"
        ):
            return self._tap.read(answer, self._size)
        on = "" if self._tap is None else f" for layer {self._tap.name!r} ({self._tap.layout})"
        more = (
            " Use masker='grad-cam', which knows about tokens."
            if self.name == "LayerGradCam"
            else ""
        )
        raise InputError(
            f"{self.name}.attribute returned shape {tuple(answer.shape)}{on}, no map over "
            f"{tuple(images.shape)}.{more}"
        )


@final
class _Module(nn.Module):
    """The box as a module, for methods that hook the layers of a model."""

    def __init__(self, forward: Callable[[Tensor], Tensor], inner: nn.Module | None) -> None:
        super().__init__()
        self._ask, self.inner = forward, inner

    def forward(self, inputs: Tensor) -> Tensor:
        """The box's logits."""
        return self._ask(inputs)


def captum_class(name: str) -> Any:
    """A class of `captum.attr` by name.

    Raises:
        InputError: Captum is not installed, or has no such class.
    """
    try:
        from captum import attr
    except ImportError:
        raise InputError(
            "this masker wraps Captum, which is not installed: pip install 'saliencykit[captum]'."
        ) from None
    kind = getattr(attr, name, None)
    if not (isinstance(kind, type) and hasattr(kind, "attribute")):
        near = (
            ", ".join(n for n in dir(attr) if n.lower().startswith(name.lower()[:3]))
            or "Saliency, IntegratedGradients, DeepLift"
        )
        raise InputError(f"captum.attr has no attribution called {name!r}; there are {near}, ... .")
    return kind


def arguments(method: Any) -> tuple[str, ...]:
    """The names of a class's or function's arguments; `kwargs` where it takes any."""
    try:
        return tuple(inspect.signature(method).parameters)
    except (TypeError, ValueError):
        return ()


def _rebound(method: Any, forward: Any, layer: nn.Module | None) -> Any:
    """A copy of an attribution that asks another function; also of the one inside it (NoiseTunnel)."""
    twin = copy.copy(method)
    for name, value in list(vars(twin).items()):
        if name in ("forward_func", "model"):
            setattr(twin, name, forward)
        elif name == "layer" and layer is not None:
            twin.layer = layer
        elif hasattr(value, "attribute"):
            setattr(twin, name, _rebound(value, forward, layer))
        elif isinstance(value, list):
            setattr(twin, name, list(value))
    return twin


@contextmanager
def restored(module: nn.Module | None) -> Iterator[None]:
    """Hooks and attributes that were set on a module's layers meanwhile are gone at the end, also
    after an error.
    """
    before = []
    for layer in () if module is None else module.modules():
        hooks = {
            key: list(value)
            for key, value in vars(layer).items()
            if key.endswith("_hooks") and isinstance(value, dict)
        }
        before.append((layer, set(vars(layer)), hooks))
    try:
        yield
    finally:
        for layer, names, hooks in before:
            for name in set(vars(layer)) - names:
                delattr(layer, name)
            for key, kept in hooks.items():
                live = vars(layer)[key]
                for handle in [handle for handle in live if handle not in kept]:
                    del live[handle]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """The global random states, seeded inside and put back at the end; the function says,
    afterwards, whether somebody drew.
    """
    devices = [device] if device.type == "cuda" else []
    outer, drawn = (random.getstate(), np.random.get_state(legacy=False)), list[bool]()

    def states() -> tuple[object, ...]:
        torches = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        return (
            *(state.numpy().tobytes() for state in torches),
            random.getstate(),
            repr(np.random.get_state(legacy=False)),
        )

    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            start = states()
            yield lambda: drawn[0]
            drawn.append(states() != start)
        finally:
            random.setstate(outer[0])
            np.random.set_state(outer[1])
