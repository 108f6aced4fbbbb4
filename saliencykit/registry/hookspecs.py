"""The hooks that a plugin implements, and the marker to implement them with.

A plugin is a module (or object) named in the entry-point group `saliencykit`:

    [project.entry-points.saliencykit]
    superpixel = "saliencykit_superpixel"

Its functions carry `@saliencykit.hookimpl`. A hook returns a mapping from names to factories; a
factory is usually the class itself. Heavy imports belong inside the hook or the factory: the module
itself is imported at the first look-up of any name.
"""

from collections.abc import Callable, Mapping

import pluggy

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Term

hookspec = pluggy.HookspecMarker("saliencykit")
hookimpl = pluggy.HookimplMarker("saliencykit")


@hookspec
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:  # type: ignore[empty-body]
    """Black boxes by name. The text after `name:` is given to the factory: `timm:resnet18` calls
    `factory("resnet18")`.
    """


@hookspec
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:  # type: ignore[empty-body]
    """Alternatives by name."""


@hookspec
def provide_terms() -> Mapping[str, Callable[..., Term]]:  # type: ignore[empty-body]
    """Terms of an objective by name."""


@hookspec
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:  # type: ignore[empty-body]
    """Maskers by name."""


@hookspec
def provide_metrics() -> Mapping[str, Callable[..., Metric]]:  # type: ignore[empty-body]
    """Metrics by name."""


@hookspec(firstresult=True)
def wrap_model(model: object) -> BlackBox | None:
    """A BlackBox around `model` if it is one of yours, else None. Newest plugin first, ours last.

    A text or path is a file that a user names, `model.onnx`; texts that begin with a black box's
    name do not come here.

    Args:
        model: Whatever was given to `explain`, unless it is a BlackBox already.
    """
