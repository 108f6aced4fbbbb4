"""saliencykit-onnx: ONNX files and onnxruntime sessions as black boxes of saliencykit.

Importing it does not import onnxruntime; building a black box does.
"""

import os
from collections.abc import Callable, Mapping

from saliencykit import BlackBox, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """`onnx:model.onnx`, with the options of `OnnxBlackBox`."""
    from saliencykit_onnx.onnx_black_box import OnnxBlackBox

    return {"onnx": OnnxBlackBox}


@hookimpl
def wrap_model(model: object) -> BlackBox | None:
    """A session of onnxruntime, or the path of a file that ends in `.onnx` or `.ort`."""
    from saliencykit_onnx.onnx_black_box import SUFFIXES, OnnxBlackBox

    if isinstance(model, str | os.PathLike):
        return OnnxBlackBox(model) if str(model).lower().endswith(SUFFIXES) else None
    packages = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    is_session = "onnxruntime" in packages and hasattr(model, "get_inputs")
    return OnnxBlackBox(model) if is_session else None
