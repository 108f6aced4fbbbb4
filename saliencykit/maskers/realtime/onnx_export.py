"""Black box and masker as one ONNX graph: images in, logits and masks out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.types import Images
from saliencykit.core.visible_text import first_line
from saliencykit.maskers.realtime.joint_module import JointModule, noise
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.tolerance import same_answers

_OPSET = 18
_TOLERANCE = 1e-3  # of a mask in another runtime


def export_onnx(
    path: Path,
    black_box: BlackBox,
    network: MaskingNetwork,
    confidence: float = 0.0,
    size: int | tuple[int, int] | None = None,
    *,
    labels: bool = False,
) -> Path:
    """Write a black box and a masking network as one ONNX file.

    The graph takes `images` (B, C, H, W), raw pixels in [0, 1], normalizes them as the black box
    does, and returns `logits` (B, K) and `mask` (B, 1, H, W) in [0, 1]; 1 keeps a pixel. B is
    dynamic, H and W are fixed. Everything is float32, whatever the black box's precision. Black box
    and network are copied, and stay unchanged. Where onnxruntime is installed, the file is run and
    compared before it gets its name, also with a batch size that the exporter did not see.

    Args:
        path: The file; an existing one is replaced atomically.
        black_box: With a torch module inside that takes raw pixels or `(pixels - mean) / std`.
        network: For inference, as `RealTimeMasker.inference_network` returns it.
        confidence: See `RealTimeMasker`.
        size: Side or (height, width) of the images. None: the black box's own.
        labels: Does the graph take a second input `labels` (B,) int64, the class of each mask?
            False: the top class.

    Returns:
        The path.

    Raises:
        InputError: onnx is not installed, or the black box is not such a black box.
        SaliencyKitError: The model has an operation that ONNX lacks, or the graph's outputs differ
            from the black box's.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise InputError("export_onnx needs onnx and onnxscript; pip install 'saliencykit[onnx]'.")
    images = _noise_images(black_box, size)
    graph = JointModule(black_box, network, confidence, images)
    classes = torch.arange(len(images), device="cpu") % graph.num_classes
    inputs = (images, classes) if labels else (images,)
    expected, errors = graph(*inputs), []
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # by torch.export; by tracing where the model's control flow forbids that
        for dynamo in (True, False):
            try:
                _write(graph, tuple(value[:2] for value in inputs), temporary, dynamo)
                _compare(temporary, inputs, expected)
            except Exception as error:
                errors.append(first_line(error))
            else:
                temporary.replace(path)
                return path
    finally:
        temporary.unlink(missing_ok=True)
    raise SaliencyKitError(
        f"{name_of(module_of(black_box))} with its masker cannot be written as ONNX: "
        f"{'; '.join(errors)}. A common cause is len(x) in a model's forward, which fixes the "
        "batch size: write x.shape[0]."
    )


def _noise_images(black_box: BlackBox, size: int | tuple[int, int] | None) -> Images:
    """Three images of noise: two for the exporter, and one more for the comparison."""
    size = getattr(black_box, "input_size", (0, 0)) if size is None else size
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InputError(
            f"export_onnx: {name_of(black_box)} has no input size, so give size=, a side or "
            "(height, width), >= 1."
        )
    channels = len(getattr(black_box, "mean", None) or (0, 0, 0))
    return noise(3, channels, height, width)


def _write(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path, dynamo: bool) -> None:
    names, outputs = ["images", "labels"][: len(inputs)], ["logits", "mask"]
    options: dict[str, Any] = {"dynamic_axes": {name: {0: "batch"} for name in names + outputs}}
    if dynamo:
        batch = torch.export.Dim("batch", min=1)
        options = {"dynamic_shapes": tuple({0: batch} for _ in names), "external_data": False}
    options |= {"input_names": names, "output_names": outputs}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph, inputs, str(path), dynamo=dynamo, opset_version=_OPSET, verbose=False, **options
        )


def _compare(path: Path, inputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Run the file in onnxruntime, if it is installed, and compare the outputs."""
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    arrays = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    logits, mask = map(torch.from_numpy, session.run(["logits", "mask"], arrays))
    if not same_answers(logits, expected[0], torch.float32):
        raise SaliencyKitError("the graph's logits in onnxruntime differ from the model's.")
    # classes with equal logits may come in either order
    same = slice(None) if len(inputs) > 1 else logits.argmax(1) == expected[0].argmax(1)
    if not torch.allclose(mask[same], expected[1][same], atol=_TOLERANCE):
        raise SaliencyKitError("the graph's mask in onnxruntime differs from the network's.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, and turn off fused transformer layers, which have no ONNX form."""
    fused, logger = torch.backends.mha.get_fastpath_enabled(), logging.getLogger("torch.onnx")
    level = logger.level
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        logger.setLevel(level)
