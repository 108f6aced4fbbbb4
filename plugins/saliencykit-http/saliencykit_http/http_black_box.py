"""HttpBlackBox: an image classifier behind an address, asked patiently, never more than allowed,
and never twice.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit

import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes.class_names import check_class_names, read_class_names
from saliencykit.black_boxes.input_shape import read_input_shape
from saliencykit.black_boxes.input_spec import InputSpec, Layout, warn_unknown_normalization
from saliencykit.black_boxes.model_output import OUTPUT_KINDS, OutputKind, read_logits
from saliencykit.black_boxes.preprocessing import Fit
from saliencykit.core.types import Images, Logits
from saliencykit_http.asking import Asking
from saliencykit_http.cache import AnswerCache
from saliencykit_http.client import Client, shown
from saliencykit_http.protocol import DATATYPES
from saliencykit_http.service import OpenInference, Pair, Service, name_of

if TYPE_CHECKING:
    from PIL.Image import Image

_BATCH = 8  # pictures in a request where nothing is said: 224 px in JSON are 3 MB each
_NUMBERS = (
    "max_pixel_value",
    "mean",
    "std",
    "fit",
    "crop_pct",
    "interpolation",
)  # what InputForm is told
_TELLING = (*_NUMBERS, "size", "layout", "outputs", "input", "output", "version", "channels")


@final
@dataclass(frozen=True, eq=False)
class HttpBlackBox(BlackBox):
    """A classifier behind an HTTP address: one that speaks the Open Inference Protocol (v2), or
    any, with two functions.

    Asked and never differentiated, so it suits maskers that only query (`rise`, `occlusion`). A
    request that fails, by a broken connection, a time-out, a status 408, 425, 429 or 5xx, garbage,
    a wrong shape or NaN, is sent again after a growing pause; the map is the same in the end, or
    there is one error. With `cache` no picture is asked about twice, and a second run goes on where
    the first one stopped.

    Args:
        url: `http://host:8000/v2/models/NAME`, also with `/versions/N`; with `encode` and `decode`
            any address.
        mean: Subtracted, one number or one per channel, in units of `max_pixel_value`. None: nothing; RGB in
            [0, `max_pixel_value`] is sent.
        std: Divided by, > 0, with `mean`.
        max_pixel_value: What the model takes for a white pixel: 1 or 255. A UINT8 input gets 0..255 in any
            case.
        size: Side or (height, width) in pixels, where the server leaves them open.
        layout: `NCHW` or `NHWC`. None: where the server has 1 or 3 channels.
        outputs: `logits` or `probabilities`.
        class_names: One name per class, or a file with one name a line (`.json`: a list).
        input: The name of the input. None: the only one.
        output: The name of the output. None: the only one, else the one called `logits`,
            `probabilities` or `scores`.
        max_batch_size: Pictures in a request, >= 1; a model of a fixed batch gets that many, filled up
            with copies of the last one.
        max_queries: The most images that this box sends. Counted is each image of each request that
            goes out, copies that fill up a batch and requests that are sent again included (the
            server may have computed the first time); not counted are tries that found no server,
            and answers from the cache. None: no limit.
        cache: A folder for answers, in a file of plain numbers. None: nothing is kept.
        version: A word that goes into the cache's keys: change it when the model changes without
            telling, or `encode` and `decode`.
        timeout: Seconds for a request, from its first byte to the last one of its answer.
        retries: How often a request is sent again.
        backoff: Seconds of the first pause; each further one is twice as long, up to 30, less a
            random share of up to a half.
        longest_wait: The longest `Retry-After` in seconds that is waited for.
        headers: Sent with every request, and never shown.
        token_variable: The name of an environment variable with a token, sent as `Authorization:
            Bearer`.
        binary: Send numbers bare and not as JSON. None: if the server says that it knows the
            protocol's extension for that.
        encode: From numpy (B, H, W, C), float32 in [0, 1], to the body of a request: bytes, a text,
            or what JSON can say.
        decode: From the answer, what its JSON says or else its bytes, to numbers (B, K).
        channels: With `encode`: of pictures, 3 or 1.
        fit: How a picture is brought to size: `crop`, `squash` or `pad`.
        crop_pct: The share of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.

    Raises:
        InputError: The address or an option is malformed; later: the service does not answer, or
            the images are used up.

    Example:
        >>> HttpBlackBox("http://user:secret@localhost:8000/v2/models/resnet")
        HttpBlackBox('http://localhost:8000/v2/models/resnet')

    References:
        https://github.com/open-inference/open-inference-protocol
    """

    url: str
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    max_pixel_value: float = 1.0
    size: int | tuple[int, int] | None = None
    layout: Layout | None = None
    outputs: OutputKind = "logits"
    class_names: str | Sequence[str] | None = field(default=None, repr=False)
    input: str | None = None
    output: str | None = None
    max_batch_size: int | None = _BATCH
    max_queries: int | None = None
    cache: str | Path | None = None
    version: str = ""
    timeout: float = 30.0
    retries: int = 6
    backoff: float = 0.5
    longest_wait: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_variable: str | None = None
    binary: bool | None = None
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    channels: int = 3
    fit: Fit = "crop"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Check the options; the server is asked when there is something to ask."""
        who = "HttpBlackBox"
        if isinstance(self.url, str) and self.url.startswith("//"):
            object.__setattr__(self, "url", f"http:{self.url}")
        try:
            parts = urlsplit(self.url)
            fine = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            )
        except (ValueError, AttributeError, TypeError):
            fine = False
        if not fine:
            raise InputError(
                f"{who} takes an address like http://host:8000/v2/models/resnet; got {self.url!r}."
            )
        if (self.encode is None) != (self.decode is None) or not all(
            f is None or callable(f) for f in (self.encode, self.decode)
        ):
            raise InputError(f"{who} takes two functions together, encode= and decode=.")
        used = [
            name
            for name in ("mean", "std", "layout", "input", "output", "binary")
            if getattr(self, name) is not None
        ]
        if self.encode is not None and (used or self.max_pixel_value != 1):
            raise InputError(
                f"{who}: encode gets raw pictures in [0, 1] and does itself what "
                f"{', '.join(used or ['white'])} is for."
            )
        if self.outputs not in OUTPUT_KINDS:
            raise InputError(
                f"{who}: outputs is one of {', '.join(OUTPUT_KINDS)}; got {self.outputs!r}."
            )
        for name, least in (("max_batch_size", 1), ("max_queries", 1), ("retries", 0)):
            value = getattr(self, name)
            if (value is None and name == "retries") or (
                value is not None and (not isinstance(value, int) or value < least)
            ):
                raise InputError(f"{who}: {name} is a whole number >= {least}; got {value!r}.")
        for name in ("timeout", "backoff", "longest_wait"):
            value = getattr(self, name)
            if (
                not isinstance(value, int | float)
                or not 0 <= value < float("inf")
                or (name == "timeout" and value == 0)
            ):
                raise InputError(f"{who}: {name} is in seconds, > 0; got {value!r}.")
        if self.token_variable is not None and not os.environ.get(self.token_variable):
            raise InputError(
                f"{who}: there is no token in the environment variable {self.token_variable!r}."
            )
        object.__setattr__(self, "class_names", read_class_names(self.class_names))

    def __repr__(self) -> str:
        """The address without password, and what makes the answers what they are, where it is not
        the default.
        """
        default = {entry.name: entry.default for entry in fields(self)}
        said = [
            f"{name}={value!r}"
            for name in _TELLING
            if (value := getattr(self, name)) != default[name]
        ]
        said += [
            f"{name}={name_of(each)}"
            for name in ("encode", "decode")
            if (each := getattr(self, name)) is not None
        ]
        return f"HttpBlackBox({', '.join([repr(shown(self.url)), *said])})"

    @property
    def sent(self) -> int:
        """How many images this box has sent, counted as `max_queries` counts."""
        return self._asking.sent if "asking" in self._facts else 0

    @property
    def remembered(self) -> int:
        """How many answers came from the cache."""
        return self._asking.remembered if "asking" in self._facts else 0

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, as the server says; where it does not, it is asked about one grey image of `size`."""
        form = self._form
        if "num_classes" not in self._facts:
            self.logits(torch.full((1, form.channels, *form.input_size), 0.5))
        return int(self._facts["num_classes"])

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw colour that normalising maps to 0."""
        return self._form.baseline_color

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._form.input_size

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The picture at the size of the input; see `BlackBox.prepare`."""
        form = self._form
        if self.encode is None and form.bare and "said" not in self._facts:
            self._facts["said"] = True
            warn_unknown_normalization(shown(self.url))
        return form.prepare(picture)

    def logits(self, images: Images) -> Logits:
        """The answers from the cache, and from the server for the others."""
        numbers = self._asking.answers(self._form.arrays(images))
        logits = read_logits(torch.from_numpy(numbers), len(images), self.outputs, shown(self.url))
        self._learn(logits.shape[1])
        return logits.to(images.device, images.dtype)

    def _learn(self, count: int) -> None:
        check_class_names(self.class_names, count, shown(self.url))
        self._facts["num_classes"] = count

    @property
    def _asking(self) -> Asking:
        if "asking" not in self._facts:
            self._connect()
        asking: Asking = self._facts["asking"]
        return asking

    @property
    def _form(self) -> InputSpec:
        if "form" not in self._facts:
            self._connect()
        form: InputSpec = self._facts["form"]
        return form

    def _connect(self) -> None:
        """Ask the server, the first time, what it is."""
        cache = None if self.cache is None else AnswerCache(Path(self.cache).expanduser())
        kept = (
            f" The answers so far are kept in {str(self.cache)!r}: the same again goes on from "
            "there."
            if cache
            else (" With cache=FOLDER answers are kept, and the same again would go on from there.")
        )
        token = (
            {}
            if self.token_variable is None
            else {"Authorization": f"Bearer {os.environ[self.token_variable]}"}
        )
        manners = {
            key: getattr(self, key) for key in ("timeout", "retries", "backoff", "longest_wait")
        }
        client = Client(**manners, headers={**self.headers, **token}, advice=kept)
        batch = None
        if self.encode is not None and self.decode is not None:
            service: Service = Pair(self.url, self.encode, self.decode, self.version)
            self._facts["form"] = self._formed("NHWC", self.size, self.channels, "float32")
        else:
            spoken = OpenInference(
                self.url,
                client,
                cache,
                input=self.input,
                output=self.output,
                binary=self.binary,
                version=self.version,
            )
            said = read_input_shape(spoken.info.shape, self.layout)
            self._facts["form"] = self._formed(
                said.layout,
                said.size(self.size),
                said.channels or 3,
                DATATYPES[spoken.info.datatype],
            )
            service, batch = spoken, said.batch
            if spoken.info.classes is not None:
                self._learn(max(2, spoken.info.classes))  # one column is a sigmoid's: two classes
        self._facts["asking"] = Asking(
            service, client, cache, batch, self.max_batch_size or _BATCH, self.max_queries
        )

    def _formed(
        self, layout: Layout, size: int | tuple[int, int] | None, channels: int, dtype: str
    ) -> InputSpec:
        numbers: dict[str, Any] = {key: getattr(self, key) for key in _NUMBERS}
        try:
            return InputSpec(layout=layout, size=size, channels=channels, dtype=dtype, **numbers)
        except InputError as error:
            raise InputError(f"{shown(self.url)}: {error}") from error
