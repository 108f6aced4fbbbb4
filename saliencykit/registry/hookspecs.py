"""The hooks that a plugin implements, and the marker for its implementations.

A plugin is a module (or object) named in the entry-point group `saliencykit`:

    [project.entry-points.saliencykit]
    superpixel = "saliencykit_superpixel"

Its functions carry `@saliencykit.hookimpl`. A hook returns a mapping from names to factories; a
factory is usually the class itself. Put heavy imports inside the hook or the factory: the module is
imported at the first look-up of any name.
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
    """Black boxes by name. The text after `name:` is the factory's argument: `timm:resnet18` calls
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
    """A BlackBox around `model` if the plugin knows it, else None. The newest plugin comes first,
    the built-in one last.

    A string or path is a file that the user names, `model.onnx`; strings that begin with the name
    of a black box are not passed.

    Args:
        model: What the user gave as a model, unless it is a BlackBox already.
    """
