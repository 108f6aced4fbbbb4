"""From a file to a session of onnxruntime, and which of its inputs and outputs are the picture and
the answer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saliencykit import InputError
from saliencykit.core.checks import first_line

_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_PIXELS = {**_FLOATS, "tensor(uint8)": "uint8"}
# what an output is called that is meant, where there are several
_ANSWERS = (
    "logits",
    "probabilities",
    "scores",
)


def open_session(
    path: Path, providers: Sequence[str] | None, threads: int | None, options: Any
) -> Any:
    """An `onnxruntime.InferenceSession` of a file.

    Args:
        path: The file.
        providers: In the order in which onnxruntime shall try them. None: CUDA where it is there,
            then the CPU.
        threads: Within an operation, >= 1. None: as many as torch has.
        options: The user's own `SessionOptions`, taken as they are, or None.

    Raises:
        InputError: The file is missing or no model, or a provider is not there.
    """
    import onnxruntime
    import torch

    if not path.is_file():
        raise InputError(f"there is no ONNX file {str(path)!r}.")
    there = onnxruntime.get_available_providers()
    if providers is None:
        chosen = [
            name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there
        ]
    else:
        chosen = list(providers)
        if missing := [name for name in chosen if name not in there]:
            raise InputError(
                f"this onnxruntime has no provider {missing[0]!r}; it has {', '.join(there)}."
            )
    if options is None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised, and need not stand on stderr as well
    elif threads is not None:
        raise InputError("threads is given inside of options: options.intra_op_num_threads = ...")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise InputError(
            f"{str(path)!r} cannot be opened as an ONNX model: {first_line(error)}."
        ) from error


def picture_input(session: Any, name: str | None, who: str) -> tuple[str, list[object], str]:
    """The input that takes the picture: its name, declared shape and type of number.

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
            "picture."
        )
    entry = next(iter(inputs.values()))
    if entry.type not in _PIXELS:
        raise InputError(
            f"{who} takes {entry.type} as {entry.name!r}; pictures are {', '.join(_PIXELS)}."
        )
    return entry.name, list(entry.shape), _PIXELS[entry.type]


def answer_output(session: Any, name: str | None, who: str) -> tuple[str, list[object]]:
    """The output that is the answer: its name and declared shape.

    Args:
        session: Of onnxruntime.
        name: The output that the user wants, or None.
        who: The file, for the error.

    Raises:
        InputError: There is no such output, or it cannot be told which of several it is.
    """
    outputs = {entry.name: entry for entry in session.get_outputs()}
    if name is not None and name not in outputs:
        raise InputError(f"{who} has no output {name!r}; it has {', '.join(outputs)}.")
    floats = [key for key, entry in outputs.items() if entry.type in _FLOATS]
    chosen = (
        [name]
        if name is not None
        else floats
        if len(floats) == 1
        else [key for key in _ANSWERS if key in floats][:1]
    )
    if not chosen:
        which = (
            f"write output= with one of {', '.join(floats)}"
            if floats
            else "none of them is a float tensor (B, K)"
        )
        raise InputError(f"{who} has the outputs {', '.join(outputs)}: {which}.")
    return chosen[0], list(outputs[chosen[0]].shape or [])
