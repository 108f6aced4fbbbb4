"""HttpBlackBox: an image classifier behind an HTTP address, with retries, a query budget and a
cache.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, final
from urllib.parse import urlsplit

import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes import (
    Fit,
    InputSpec,
    Layout,
    check_class_names,
    num_columns,
    read_class_names,
    read_input_shape,
    read_logits,
    warn_of_misreading,
    warn_unknown_normalization,
)
from saliencykit.core import Images, Logits, Output, check_fields
from saliencykit_http.cache import OutputCache
from saliencykit_http.cached_queries import CachedQueries
from saliencykit_http.client import Client, redacted
from saliencykit_http.protocol import DATATYPES
from saliencykit_http.service import CustomService, OpenInference, Service, name_of

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_BATCH_SIZE = 8  # by default: 224 px in JSON are 3 MB per image
_PREPROCESSING = ("max_pixel_value", "mean", "std", "fit", "crop_pct", "interpolation")
_IN_REPR = (
    *_PREPROCESSING, "size", "layout", "output", "probabilities", "input_name", "output_name",
    "version", "channels",
)  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class HttpBlackBox(BlackBox):
    """A classifier behind an HTTP address: one that speaks the Open Inference Protocol (v2), or
    any, with two functions.

    It has no gradients, so it suits maskers that only query (`rise`, `occlusion`). A request that
    fails, by a broken connection, a time-out, a status 408, 425, 429 or 5xx, garbage, a wrong shape
    or NaN, is sent again after a growing pause; in the end the map is the same, or there is one
    error. With `cache` no image is sent twice, and a second run resumes from the first one.

    Args:
        url: `http://host:8000/v2/models/NAME`, also with `/versions/N`; with `encode` and `decode`
            any address.
        mean: Subtracted, one number or one per channel, in units of `max_pixel_value`. None:
            nothing; RGB in [0, `max_pixel_value`] is sent.
        std: Divided by, > 0, with `mean`.
        max_pixel_value: The value of a white pixel: 1 or 255. A UINT8 input gets 0..255 in any
            case.
        size: Side or (height, width) in pixels, where the server leaves them open.
        layout: `NCHW` or `NHWC`. None: where the server has 1 or 3 channels.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The service returns values in [0, 1].
        class_names: One name per class, or a file with one name per line (`.json`: a list).
        input_name: The name of the input. None: the only one.
        output_name: The name of the output. None: the only one, else the one called `logits`,
            `probabilities` or `scores`.
        max_batch_size: Images per request, >= 1; a model of a fixed batch gets that many, filled up
            with copies of the last one.
        max_queries: The most images that this black box sends. Each image of each request counts,
            copies that fill up a batch and requests that are sent again included (the server may
            have computed the first time); tries that found no server and outputs from the cache do
            not count. None: no limit.
        cache: A directory for outputs, in a file of plain numbers. None: nothing is kept.
        version: A word that goes into the cache's keys: change it when the model changes without
            telling, or `encode` and `decode`.
        timeout: Seconds for a request, from its first byte to the last one of the response.
        retries: How often a request is sent again.
        backoff: Seconds of the first pause; each further one is twice as long, up to 30, minus a
            random fraction of up to a half.
        longest_wait: The longest `Retry-After` in seconds that is waited for.
        headers: Sent with every request, and never printed.
        token_variable: The name of an environment variable with a token, sent as `Authorization:
            Bearer`.
        binary: Send binary tensors and not JSON. None: if the server declares the protocol's
            extension for that.
        encode: From numpy (B, H, W, C), float32 in [0, 1], to the body of a request: bytes, a text,
            or what JSON can hold.
        decode: From the response (its JSON, else its bytes) to numbers (B, K).
        channels: With `encode`: of images, 3 or 1.
        fit: How an image is resized: `crop`, `squash` or `pad`.
        crop_pct: The fraction of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.

    Raises:
        InputError: The address or an option is malformed; later: the service does not respond, or
            the query budget is spent.

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
    output: Output = "softmax"
    probabilities: bool = False
    class_names: str | Sequence[str] | None = field(default=None, repr=False)
    input_name: str | None = None
    output_name: str | None = None
    max_batch_size: Annotated[int | None, "[1, inf)"] = _MAX_BATCH_SIZE
    max_queries: Annotated[int | None, "[1, inf)"] = None
    cache: str | Path | None = None
    version: str = ""
    timeout: Annotated[float, "(0, inf)"] = 30.0
    retries: Annotated[int, "[0, inf)"] = 6
    backoff: Annotated[float, "[0, inf)"] = 0.5
    longest_wait: Annotated[float, "[0, inf)"] = 60.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_variable: str | None = None
    binary: bool | None = None
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    channels: int = 3
    fit: Fit = "crop"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Check the options; the server is contacted when it is needed."""
        who = "HttpBlackBox"
        if isinstance(self.url, str) and self.url.startswith("//"):
            object.__setattr__(self, "url", f"http:{self.url}")
        if not _is_address(self.url):
            raise InputError(
                f"{who} takes an address like http://host:8000/v2/models/resnet; got {self.url!r}."
            )
        self._check_functions()
        check_fields(self)
        if self.token_variable is not None and not os.environ.get(self.token_variable):
            raise InputError(
                f"{who}: there is no token in the environment variable {self.token_variable!r}."
            )
        object.__setattr__(self, "class_names", read_class_names(self.class_names))

    def _check_functions(self) -> None:
        functions = (self.encode, self.decode)
        together = (self.encode is None) == (self.decode is None)
        if not together or not all(f is None or callable(f) for f in functions):
            raise InputError("HttpBlackBox takes two functions together, encode= and decode=.")
        names = ("mean", "std", "layout", "input_name", "output_name", "binary")
        used = [name for name in names if getattr(self, name) is not None]
        if self.encode is not None and (used or self.max_pixel_value != 1):
            raise InputError(
                "HttpBlackBox: encode gets raw images in [0, 1] and prepares them itself; leave "
                f"out {', '.join(used or ['max_pixel_value'])}."
            )

    def __repr__(self) -> str:
        """The address without password, and what determines the logits, where it is not the
        default.
        """
        default = {entry.name: entry.default for entry in fields(self)}
        values = {name: getattr(self, name) for name in _IN_REPR}
        options = [f"{name}={v!r}" for name, v in values.items() if v != default[name]]
        functions = {"encode": self.encode, "decode": self.decode}
        options += [f"{key}={name_of(f)}" for key, f in functions.items() if f is not None]
        return f"HttpBlackBox({', '.join([repr(redacted(self.url)), *options])})"

    @property
    def sent(self) -> int:
        """How many images this black box has sent, as `max_queries` counts."""
        return self._queries.sent if "queries" in self._state else 0

    @property
    def cached(self) -> int:
        """How many outputs came from the cache."""
        return self._queries.cached if "queries" in self._state else 0

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, as the server declares it; else one gray image of `size` is sent."""
        spec = self._spec
        if "num_classes" not in self._state:
            self.logits(torch.full((1, spec.channels, *spec.input_size), 0.5))
        return int(self._state["num_classes"])

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw color that normalization maps to 0."""
        return self._spec.baseline_color

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._spec.input_size

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """The image at the size of the input; see `BlackBox.prepare`."""
        spec = self._spec
        if self.encode is None and spec.normalization_unknown and "warned" not in self._state:
            self._state["warned"] = True
            warn_unknown_normalization(redacted(self.url))
        return spec.prepare(image)

    def logits(self, images: Images) -> Logits:
        """The logits from the cache, and from the server for the others."""
        outputs = torch.from_numpy(self._queries.outputs(self._spec.arrays(images)))
        logits = read_logits(
            outputs, len(images), redacted(self.url), self.output, self.probabilities
        )
        self._set_num_classes(logits.shape[1])
        if "checked" not in self._state:
            self._state["checked"] = True
            who = redacted(self.url)
            warn_of_misreading(logits, who, self.output, self.probabilities)
        return logits.to(images.device, images.dtype)

    def _set_num_classes(self, count: int) -> None:
        check_class_names(self.class_names, count, redacted(self.url))
        self._state["num_classes"] = count

    @property
    def _queries(self) -> CachedQueries:
        if "queries" not in self._state:
            self._connect()
        queries: CachedQueries = self._state["queries"]
        return queries

    @property
    def _spec(self) -> InputSpec:
        if "spec" not in self._state:
            self._connect()
        spec: InputSpec = self._state["spec"]
        return spec

    def _connect(self) -> None:
        """Read what the server declares, the first time."""
        cache = None if self.cache is None else OutputCache(Path(self.cache).expanduser())
        advice = " With cache=DIRECTORY outputs are kept, and the next run would resume from there."
        if cache:
            advice = f" The outputs so far are kept in {str(self.cache)!r}: run again to resume."
        headers = dict(self.headers)
        if self.token_variable is not None:
            headers["Authorization"] = f"Bearer {os.environ[self.token_variable]}"
        client = Client(
            timeout=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
            longest_wait=self.longest_wait,
            headers=headers,
            advice=advice,
        )
        service: Service
        batch_size = classes = None
        if self.encode is not None and self.decode is not None:
            service = CustomService(self.url, self.encode, self.decode, self.version)
            self._state["spec"] = self._make_spec("NHWC", self.size, self.channels, "float32")
        else:
            service = OpenInference(
                self.url,
                client,
                cache,
                input=self.input_name,
                output=self.output_name,
                binary=self.binary,
                version=self.version,
            )
            info, declared = service.info, read_input_shape(service.info.shape, self.layout)
            size, dtype = declared.size(self.size), DATATYPES[info.datatype]
            channels, batch_size = declared.channels or 3, declared.batch_size
            self._state["spec"] = self._make_spec(declared.layout, size, channels, dtype)
            classes = info.classes
            if classes is not None:
                self._set_num_classes(num_columns(classes, self.output))
        most = self.max_batch_size or _MAX_BATCH_SIZE
        queries = CachedQueries(service, client, cache, batch_size, most, self.max_queries, classes)
        self._state["queries"] = queries

    def _make_spec(
        self, layout: Layout, size: int | tuple[int, int] | None, channels: int, dtype: str
    ) -> InputSpec:
        options: dict[str, Any] = {key: getattr(self, key) for key in _PREPROCESSING}
        options["dtype"] = dtype
        try:
            return InputSpec(layout=layout, size=size, channels=channels, **options)
        except InputError as error:
            raise InputError(f"{redacted(self.url)}: {error}") from error


def _is_address(url: object) -> bool:
    try:
        parts = urlsplit(cast(str, url))
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        return known and (parts.port or 1) > 0
    except (ValueError, AttributeError, TypeError):
        return False
