"""What is behind an address: a model that speaks the Open Inference Protocol, or anything that a
user's two functions speak to.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np

from saliencykit import InputError
from saliencykit_http.cache import AnswerCache
from saliencykit_http.client import Client, Reply, UnusableError, shown
from saliencykit_http.protocol import (
    ModelInfo,
    read_answer,
    read_info,
    read_json,
    usable,
    write_request,
)

Rows = Any  # an array, one image per row


class Service(Protocol):
    """What a box needs to know of what it asks."""

    @property
    def address(self) -> str:
        """Where requests go."""

    @property
    def identity(self) -> str:
        """What makes an answer the same answer: goes into the cache's keys."""

    def request(self, rows: Rows) -> tuple[bytes, dict[str, str]]:
        """Body and headers for some pictures."""

    def answer(self, reply: Reply, count: int) -> "np.ndarray[Any, np.dtype[Any]]":
        """The numbers in a reply, (count, K); raises UnusableError."""


@final
class OpenInference:
    """A model at `http://host:8000/v2/models/NAME`, with or without `/versions/N`.

    Args:
        url: The address.
        client: Asks.
        cache: Remembers what the server said of the model, for the time that it does not answer.
        input: The name of the input, or None.
        output: The name of the output, or None.
        binary: Send and get bare numbers in place of JSON. None: if the server says that it can.
        version: A word of the user's for the cache.

    Raises:
        InputError: The address is none of a model, or the server does not describe it.
    """

    def __init__(
        self,
        url: str,
        client: Client,
        cache: AnswerCache | None,
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
                f"{shown(url)} is no address of a model in the Open Inference Protocol, such as "
                "http://host:8000/v2/models/resnet. For another service give HttpBlackBox(url, "
                "encode=..., decode=...)."
            )
        self.model, self.root = f"{base}{mark}{name}", f"{base}/v2"
        self.address = f"{self.model}/infer"
        self.info: ModelInfo = read_info(self._described(cache), input, output, shown(self.model))
        told = self.info
        self.identity = json.dumps(
            [shown(self.model), told.versions, version, told.input, told.datatype, told.output]
        )

    def request(self, rows: Rows) -> tuple[bytes, dict[str, str]]:
        """See Service."""
        if self._binary is None:
            self._binary = self._takes_binary()
        return write_request(rows, self.info, binary=self._binary)

    def answer(self, reply: Reply, count: int) -> "np.ndarray[Any, np.dtype[Any]]":
        """See Service.

        Raises:
            InputError: Another version of the model answers than before: one map must come from one
                model.
        """
        rows, version = read_answer(reply, self.info, count)
        if self._version is not None and version is not None and version != self._version:
            raise InputError(
                f"{shown(self.model)}: version {version} answers, and before it was "
                f"{self._version}; the model was replaced. Ask again, or stay with one: "
                f"{shown(self.model)}/versions/{version}."
            )
        self._version = version or self._version
        return rows

    def _described(self, cache: AnswerCache | None) -> Any:
        remembered = cache.note(f"metadata {shown(self.model)}") if cache else None
        try:
            said = self.client.ask(
                "GET",
                self.model,
                lambda reply: read_json(reply.content),
                retries=0 if remembered else None,
            )
        except InputError as error:
            if remembered is None:
                raise
            warnings.warn(
                f"{error} What it said of the model before is used: answers come from the cache "
                "alone.",
                stacklevel=2,
            )
            return json.loads(remembered)
        if cache:
            cache.keep_note(f"metadata {shown(self.model)}", json.dumps(said))
        return said

    def _takes_binary(self) -> bool:
        try:
            said = self.client.ask(
                "GET", self.root, lambda reply: read_json(reply.content), retries=0
            )
        except InputError:
            return False
        known = said.get("extensions") if isinstance(said, dict) else None
        return isinstance(known, list) and "binary_tensor_data" in known


@final
@dataclass(frozen=True)
class Pair:
    """A service that a user's two functions speak to.

    Args:
        address: Where requests go.
        encode: From pictures, numpy (B, H, W, C) float32 in [0, 1], to a request: bytes, a text, or
            anything that JSON can say.
        decode: From the answer, what its JSON says or else its bytes, to numbers (B, K).
        version: A word of the user's for the cache.
    """

    address: str
    encode: Callable[[Rows], Any]
    decode: Callable[[Any], Any]
    version: str

    @property
    def identity(self) -> str:
        """The address, the version, and how the functions are called."""
        return json.dumps(
            [
                shown(self.address),
                self.version,
                *(name_of(each) for each in (self.encode, self.decode)),
            ]
        )

    def request(self, rows: Rows) -> tuple[bytes, dict[str, str]]:
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
                f"{name_of(self.encode)} failed on pictures {rows.shape}: {type(error).__name__}: "
                f"{error}. It returns bytes, a text, or lists, dicts, numbers and texts."
            ) from error

    def answer(self, reply: Reply, count: int) -> "np.ndarray[Any, np.dtype[Any]]":
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
                f"{name_of(self.decode)} could not read the answer ({reason})"
            ) from error
        return usable(values, count)


def name_of(function: object) -> str:
    """What a function is called in messages and keys.

    Args:
        function: Or any other object that can be called.
    """
    return str(getattr(function, "__qualname__", type(function).__name__))
