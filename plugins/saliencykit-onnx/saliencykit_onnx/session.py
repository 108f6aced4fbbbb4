"""From a file to a session of onnxruntime, and which of its inputs and outputs are used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from saliencykit import InputError
from saliencykit.core import first_line
from saliencykit_onnx.external_data import check_external_data

_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_PIXELS = {**_FLOATS, "tensor(uint8)": "uint8"}
_OUTPUT_NAMES = ("logits", "probabilities", "scores")  # where there are several outputs


def open_session(
    path: Path, providers: Sequence[str] | None, threads: int | None, options: Any
) -> Any:
    """An `onnxruntime.InferenceSession` of a file.

    Args:
        path: The file.
        providers: In the order in which onnxruntime tries them. None: CUDA where it is available,
            then the CPU.
        threads: Within an operation, >= 1. None: as many as torch has.
        options: The user's own `SessionOptions`, taken as they are, or None.

    Raises:
        InputError: The file is missing or not a model, its external data are not beside it, or a
            provider is not available.
    """
    import onnxruntime

    if not path.is_file():
        raise InputError(f"there is no ONNX file {str(path)!r}.")
    available = onnxruntime.get_available_providers()
    default = ("CUDAExecutionProvider", "CPUExecutionProvider")
    if providers is None:
        providers = [name for name in default if name in available]
    elif missing := [name for name in providers if name not in available]:
        raise InputError(
            f"this onnxruntime has no provider {missing[0]!r}; it has {', '.join(available)}."
        )
    if options is None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised, and need not be on stderr as well
    elif threads is not None:
        raise InputError("set threads in options: options.intra_op_num_threads = ...")
    check_external_data(path)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise InputError(
            f"{str(path)!r} cannot be opened as an ONNX model: {first_line(error)}."
        ) from error


def image_input(session: Any, name: str | None, who: str) -> tuple[str, list[object], str]:
    """The input that takes the images: its name, declared shape and dtype.

    Args:
        session: Of onnxruntime.
        name: The input that the user wants, or None.
        who: The file, for the error.

    Raises:
        InputError: There is no such input, there are others beside it, or it takes something else.
    """
    inputs = {entry.name: entry for entry in session.get_inputs()}
    if name is not None and name not in inputs:
        raise InputError(f"{who} has no input {name!r}; it has {', '.join(inputs)}.")
    if len(inputs) != 1:
        raise InputError(
            f"{who} takes {len(inputs)} inputs ({', '.join(inputs)}); a classifier takes one, the "
            "images."
        )
    (entry,) = inputs.values()
    if entry.type not in _PIXELS:
        raise InputError(
            f"{who} takes {entry.type} as {entry.name!r}; images are {', '.join(_PIXELS)}."
        )
    return entry.name, list(entry.shape), _PIXELS[entry.type]


def logits_output(session: Any, name: str | None, who: str) -> tuple[str, list[object]]:
    """The output that holds the logits or probabilities: its name and declared shape.

    Args:
        session: Of onnxruntime.
        name: The output that the user wants, or None.
        who: The file, for the error.

    Raises:
        InputError: There is no such output, or several that it could be.
    """
    outputs = {entry.name: entry for entry in session.get_outputs()}
    if name is not None and name not in outputs:
        raise InputError(f"{who} has no output {name!r}; it has {', '.join(outputs)}.")
    floats = [key for key, entry in outputs.items() if entry.type in _FLOATS]
    if name is None:
        usual = [key for key in _OUTPUT_NAMES if key in floats]
        name = floats[0] if len(floats) == 1 else next(iter(usual), None)
    if name is None:
        which = (
            f"write output_name= with one of {', '.join(floats)}"
            if floats
            else "none of them is a float tensor (B, K)"
        )
        raise InputError(f"{who} has the outputs {', '.join(outputs)}: {which}.")
    return name, list(outputs[name].shape or [])
