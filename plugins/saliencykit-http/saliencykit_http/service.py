"""What is behind an address: a model that speaks the Open Inference Protocol, or any service
through the user's two functions.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

from saliencykit import InputError
from saliencykit_http.cache import Array, OutputCache
from saliencykit_http.client import Client, Reply, UnusableError, redacted
from saliencykit_http.protocol import (
    ModelInfo,
    read_info,
    read_json,
    read_response,
    usable,
    write_request,
)


class Service(Protocol):
    """What a black box needs to know of a service."""

    @property
    def address(self) -> str:
        """Where requests go."""

    @property
    def identity(self) -> str:
        """What determines an output: part of the cache's keys."""

    def request(self, rows: Array) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a request for some images."""

    def read(self, reply: Reply, count: int) -> Array:
        """The outputs in a reply, (count, K); raises UnusableError."""


@final
class OpenInference:
    """A model at `http://host:8000/v2/models/NAME`, with or without `/versions/N`.

    Args:
        url: The address.
        client: Sends requests.
        cache: Keeps what the server declares of the model, for when it does not respond.
        input: The name of the input, or None.
        output: The name of the output, or None.
        binary: Send and receive binary tensors in place of JSON. None: if the server declares it.
        version: The user's own version of the model, for the cache.

    Raises:
        InputError: Not the address of a model, or the server does not describe it.
    """

    def __init__(
        self,
        url: str,
        client: Client,
        cache: OutputCache | None,
        *,
        input: str | None = None,
        output: str | None = None,
        binary: bool | None = None,
        version: str = "",
    ) -> None:
        self.client, self._binary = client, binary
        self._version: str | None = None
        base, mark, name = (
            url.rstrip("/").removesuffix("/infer").removesuffix("/").partition("/v2/models/")
        )
        if not mark or not name:
            raise InputError(
                f"{redacted(url)} is not the address of a model in the Open Inference Protocol, "
                "such as http://host:8000/v2/models/resnet. For another service give "
                "HttpBlackBox(url, encode=..., decode=...)."
            )
        self.model, self.root = f"{base}{mark}{name}", f"{base}/v2"
        self.address = f"{self.model}/infer"
        self.info: ModelInfo = read_info(
            self._described(cache), input, output, redacted(self.model)
        )
        told = self.info
        self.identity = json.dumps(
            [redacted(self.model), told.versions, version, told.input, told.datatype, told.output]
        )

    def request(self, rows: Array) -> tuple[bytes, dict[str, str]]:
        """See Service."""
        if self._binary is None:
            self._binary = self._takes_binary()
        return write_request(rows, self.info, binary=self._binary)

    def read(self, reply: Reply, count: int) -> Array:
        """See Service.

        Raises:
            InputError: Another version of the model responds than before: one map must come from
                one model.
        """
        rows, version = read_response(reply, self.info, count)
        if self._version is not None and version is not None and version != self._version:
            raise InputError(
                f"{redacted(self.model)}: version {version} responds, and before it was "
                f"{self._version}; the model was replaced. Run again, or pin a version: "
                f"{redacted(self.model)}/versions/{version}."
            )
        self._version = version or self._version
        return rows

    def _described(self, cache: OutputCache | None) -> Any:
        remembered = cache.note(f"metadata {redacted(self.model)}") if cache else None
        try:
            said = self.client.request(
                "GET",
                self.model,
                lambda reply: read_json(reply.content),
                retries=0 if remembered else None,
            )
        except InputError as error:
            if remembered is None:
                raise
            warnings.warn(
                f"{error} Using the metadata of an earlier run: outputs come from the cache only.",
                stacklevel=2,
            )
            return json.loads(remembered)
        if cache:
            cache.keep_note(f"metadata {redacted(self.model)}", json.dumps(said))
        return said

    def _takes_binary(self) -> bool:
        try:
            said = self.client.request(
                "GET", self.root, lambda reply: read_json(reply.content), retries=0
            )
        except InputError:
            return False
        known = said.get("extensions") if isinstance(said, dict) else None
        return isinstance(known, list) and "binary_tensor_data" in known


@final
@dataclass(frozen=True)
class CustomService:
    """A service that the user's two functions encode requests for and decode responses of.

    Args:
        address: Where requests go.
        encode: From numpy (B, H, W, C) float32 in [0, 1] to a request: bytes, a text, or anything
            that JSON can hold.
        decode: From the response (its JSON, else its bytes) to numbers (B, K).
        version: The user's own version of the model, for the cache.
    """

    address: str
    encode: Callable[[Array], Any]
    decode: Callable[[Any], Any]
    version: str

    @property
    def identity(self) -> str:
        """The address, the version, and the names of the functions."""
        return json.dumps(
            [
                redacted(self.address),
                self.version,
                *(name_of(each) for each in (self.encode, self.decode)),
            ]
        )

    def request(self, rows: Array) -> tuple[bytes, dict[str, str]]:
        """See Service.

        Raises:
            InputError: The function failed, or returned something else.
        """
        try:
            made = self.encode(rows.copy())
            if isinstance(made, bytes):
                return made, {"Content-Type": "application/octet-stream"}
            text = made if isinstance(made, str) else json.dumps(made)
            return text.encode(), {"Content-Type": "application/json"}
        except Exception as error:
            raise InputError(
                f"{name_of(self.encode)} failed on images {rows.shape}: {type(error).__name__}: "
                f"{error}. It must return bytes, a string, or JSON values."
            ) from error

    def read(self, reply: Reply, count: int) -> Array:
        """See Service."""
        said = (
            read_json(reply.content)
            if "json" in reply.headers.get("content-type", "")
            else reply.content
        )
        try:
            values = self.decode(said)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UnusableError(
                f"{name_of(self.decode)} could not decode the response ({reason})"
            ) from error
        return usable(values, count)


def name_of(function: object) -> str:
    """A function's name in messages and keys.

    Args:
        function: Or any other callable.
    """
    return str(getattr(function, "__qualname__", type(function).__name__))
