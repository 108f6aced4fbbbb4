"""The Open Inference Protocol, version 2: a model's metadata, requests and responses, as JSON or
with binary tensors.

References:
    https://github.com/open-inference/open-inference-protocol, files inference_rest.md and
    extension_binary_data.md of the specification (KServe, Triton, MLServer, OpenVINO and TorchServe
    speak it).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

import msgspec
import numpy as np

from saliencykit import InputError
from saliencykit_http.cache import Array
from saliencykit_http.client import Reply, UnusableError, plain

DATATYPES = {"FP32": "float32", "FP16": "float16", "FP64": "float64", "UINT8": "uint8"}
_LARGEST = 2**26  # numbers in a tensor that a server declares
_HEADER = "inference-header-content-length"
_OUTPUT_NAMES = ("logits", "probabilities", "scores")  # where there are several outputs


@final
@dataclass(frozen=True)
class ModelInfo:
    """A model's metadata.

    Attributes:
        versions: Of the model; empty if it does not tell.
        input: The name of the input that takes the images.
        datatype: Of the input, one of `DATATYPES`.
        shape: Of the input, -1 where it is free.
        output: The name of the output that holds the logits or probabilities.
        classes: K, or None if it does not tell.
    """

    versions: tuple[str, ...]
    input: str
    datatype: str
    shape: tuple[int, ...]
    output: str
    classes: int | None


class _Tensor(msgspec.Struct):
    """What a server declares, within bounds: an input of 100 MB, a million classes."""

    name: Annotated[str, msgspec.Meta(max_length=1000)]
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1, le=10**6)], ...] = ()

    def __post_init__(self) -> None:
        if math.prod(side for side in self.shape if side > 0) > _LARGEST:
            raise ValueError(f"{self.name} of shape {list(self.shape)} is too large")


class _Metadata(msgspec.Struct):
    inputs: Annotated[tuple[_Tensor, ...], msgspec.Meta(min_length=1, max_length=100)]
    outputs: Annotated[tuple[_Tensor, ...], msgspec.Meta(min_length=1, max_length=1000)]
    versions: tuple[str | int, ...] | None = None


def read_info(said: Any, input: str | None, output: str | None, who: str) -> ModelInfo:
    """Read the response to `GET /v2/models/NAME`.

    Args:
        said: Its JSON.
        input: The name of the input that the user wants, or None.
        output: The name of the output that the user wants, or None.
        who: The address, for the error.

    Raises:
        InputError: It is something else, or the model does not take one input of images.
    """
    try:
        described = msgspec.convert(said, _Metadata, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(
            f"{who} does not describe a model as the Open Inference Protocol does: "
            f"{str(error).replace('$.', '')}."
        ) from error
    inputs = {entry.name: entry for entry in described.inputs}
    outputs = {entry.name: entry for entry in described.outputs}
    name = input if input is not None else next(iter(inputs))
    if name not in inputs or len(inputs) != 1:
        wanted = (
            f"no input {input!r}; its inputs are"
            if input not in (None, *inputs)
            else f"{len(inputs)} inputs, not one:"
        )
        raise InputError(f"{who} has {wanted} {_listed(inputs)}.")
    usual = list(outputs) if len(outputs) == 1 else [key for key in _OUTPUT_NAMES if key in outputs]
    chosen = outputs.get(output or next(iter(usual), ""))
    if chosen is None:
        raise InputError(
            f"{who} has the outputs {_listed(outputs)}; write output_name= with one of them."
        )
    entry, sides = inputs[name], chosen.shape
    if entry.datatype not in DATATYPES:
        raise InputError(
            f"{who} takes {plain(entry.datatype, 40)}; images are sent as {', '.join(DATATYPES)}. "
            "Write encode= and decode=."
        )
    classes = sides[1] if len(sides) in (2, 4) and sides[1] >= 1 else None
    versions = tuple(str(version) for version in described.versions or ())
    return ModelInfo(versions, name, entry.datatype, entry.shape, chosen.name, classes)


def _listed(names: Iterable[str]) -> str:
    return plain(", ".join(names), 300)


def write_request(rows: Array, info: ModelInfo, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body of `POST .../infer` and its headers.

    Args:
        rows: Images as the model takes them.
        info: The model's metadata.
        binary: Binary tensors in place of JSON.

    Example:
        >>> info = ModelInfo(("1",), "pixels", "UINT8", (-1, 1, 1, 2), "logits", 4)
        >>> write_request(np.array([[[[0, 255]]]], dtype="uint8"), info, binary=False)[0].decode()
        '{"inputs":[{"name":"pixels","shape":[1,1,1,2],"datatype":"UINT8","data":[0,255]}],"outputs":[{"name":"logits"}]}'
    """
    tensor: dict[str, Any] = {
        "name": info.input,
        "shape": list(rows.shape),
        "datatype": info.datatype,
    }
    wanted: dict[str, Any] = {"name": info.output}
    blob = b""
    if binary:
        blob = rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()
        tensor["parameters"] = {"binary_data_size": len(blob)}
        wanted["parameters"] = {"binary_data": True}
    else:
        tensor["data"] = rows.ravel().tolist()
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}, separators=(",", ":")).encode()
    if not binary:
        return head, {"Content-Type": "application/json"}
    return head + blob, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def read_response(reply: Reply, info: ModelInfo, count: int) -> tuple[Array, str | None]:
    """The rows of a response, (count, K), and the version of the model that it names, if any.

    Args:
        reply: Of status 200.
        info: The model's metadata.
        count: The number of images in the request.

    Raises:
        UnusableError: It does not hold `count` rows.
    """
    length = reply.headers.get(_HEADER, "")
    at = (
        int(length)
        if length.isascii() and length.isdigit() and len(length) < 12
        else len(reply.content)
    )
    blob, said = reply.content[at:], read_json(reply.content[:at])
    if not isinstance(said, Mapping) or not isinstance(said.get("outputs"), list):
        raise UnusableError("the response has no list of outputs")
    at = 0
    for tensor in said["outputs"]:
        if not isinstance(tensor, Mapping):
            raise UnusableError("an output is not a tensor")
        parameters = tensor.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
        piece = None
        if isinstance(size, int) and "data" not in tensor:
            piece, at = blob[at : at + max(0, size)], at + max(0, size)
        if tensor.get("name") == info.output:
            version = said.get("model_version")
            return _rows(tensor, piece, count), None if version is None else str(version)
    raise UnusableError(f"the response has no output {info.output!r}")


def read_json(content: bytes) -> Any:
    """Parse JSON.

    Args:
        content: The text, UTF-8.

    Raises:
        UnusableError: It is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableError(
            f"the response of {len(content)} bytes is not JSON ({str(error)[:80]})"
        ) from error


def usable(values: Any, count: int) -> Array:
    """Numbers as an array (count, K), float64.

    Args:
        values: Whatever numpy makes an array of: (count, K), (count,) or (count, K, 1, 1).
        count: The number of images in the request.

    Raises:
        UnusableError: They are not numbers, of another shape, or not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableError(
            f"the response holds something other than numbers ({str(error)[:80]})"
        ) from error
    if array.ndim == 1 and len(array) == count:
        array = array[:, None]
    if array.ndim == 4 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    if array.ndim != 2 or len(array) != count or array.shape[1] < 1:
        raise UnusableError(
            f"the response for {count} images has shape {array.shape}, and must have ({count}, K)"
        )
    if not np.isfinite(array).all():
        raise UnusableError("the response holds NaN or infinite values")
    return array


def _rows(tensor: Mapping[str, Any], piece: bytes | None, count: int) -> Array:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        isinstance(side, int) and side >= 0 for side in shape
    ):
        raise UnusableError(f"the output's shape is {shape!r}")
    try:
        if piece is not None:
            values: Any = np.frombuffer(
                piece, np.dtype(DATATYPES[tensor.get("datatype", "")]).newbyteorder("<")
            )
        else:
            values = np.asarray(tensor["data"], dtype=np.float64)
        return usable(values.reshape(shape), count)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnusableError(
            f"the output's data do not fit its shape {shape} ({type(error).__name__} "
            f"{str(error)[:80]})"
        ) from error
