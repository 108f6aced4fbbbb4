"""Client: one request, retried until there is a usable response, with growing pauses in between."""

import json
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, final
from urllib.parse import urlsplit, urlunsplit

from saliencykit import InputError

T = TypeVar("T")
# retries after an unusable response: a wrong setting would not get better
_UNUSABLE = 2
_SILENCE = 2.0  # seconds of trouble after which a warning is given
_LARGEST = 2**26  # bytes of a response
_TOO_LARGE = f"the response has more than {_LARGEST >> 20} MB"
_LATER = (408, 425, 429)  # and all of 5xx: another try may help
_ADVICE = {
    401: " It requires authentication: write headers= or token_variable=.",
    403: " Access is denied: write headers= or token_variable=.",
    413: " The request is too large: write a smaller max_batch_size=.",
}


@final
class UnusableError(Exception):
    """A response of status 200 that cannot be used: garbage, wrong shapes, NaN."""

    def __init__(self, reason: str) -> None:
        super().__init__(plain(reason, 300))  # it quotes what a server sent


@final
@dataclass(frozen=True)
class Reply:
    """A response.

    Attributes:
        status: The number, 200 for success.
        headers: By names in lower case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


@final
class Client:
    """Sends requests to one service, with retries and backoff.

    Args:
        timeout: Seconds that one request may take, from its first byte to the last of the response.
        retries: How often a request is sent again.
        backoff: Seconds before the first of these; each further pause is twice as long, at most 30
            s, and each is shortened by a random share of up to a half, so that many clients do not
            come back together.
        longest_wait: The longest `Retry-After` in seconds that is waited for.
        headers: Sent with every request.
        advice: The end of the message after the last try: what becomes of the outputs so far.
    """

    def __init__(
        self,
        *,
        timeout: float,
        retries: int,
        backoff: float,
        longest_wait: float,
        headers: Mapping[str, str],
        advice: str,
    ) -> None:
        self.timeout, self.retries, self.backoff, self.longest_wait = (
            timeout,
            retries,
            backoff,
            longest_wait,
        )
        self.headers = {"User-Agent": "saliencykit-http", **headers}
        self.advice = advice
        self._answered = False  # a request with content: there are outputs to keep
        self._thread = threading.local()  # a connection of its own, which can be cut
        self._random = random.Random()  # its own: the global state is not touched

    def request(
        self,
        method: str,
        url: str,
        read: Callable[[Reply], T],
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        before: Callable[[], None] = lambda: None,
        not_sent: Callable[[], None] = lambda: None,
        retries: int | None = None,
    ) -> T:
        """Send a request until `read` accepts its reply.

        Args:
            method: GET or POST.
            url: Where to.
            read: Makes something of a reply of status 200, or raises UnusableError.
            content: The body.
            headers: Of this request.
            before: Called before every try; may raise to stop.
            not_sent: Called after a try that did not reach the server.
            retries: In place of the client's own.

        Raises:
            InputError: There is no usable response after all tries, or another try would not help.
        """
        import httpx2

        started, unusable, told, most = (
            time.monotonic(),
            0,
            False,
            self.retries if retries is None else retries,
        )
        for tries in range(1, most + 2):
            before()
            wait = 0.0
            try:
                reply = self._once(httpx2, method, url, content, headers or {})
                if reply.status == 200:
                    answer = read(reply)
                    self._answered |= content is not None
                    return answer
                trouble, wait = self._refused(reply, url)
            except UnusableError as error:
                unusable += 1
                trouble = str(error)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                not_sent()
                trouble = f"there was no connection ({error or type(error).__name__})"
            except httpx2.TimeoutException:
                trouble = f"there was no response within {self.timeout:g} s"
            except httpx2.RequestError as error:
                trouble = f"the connection broke ({plain(str(error), 200) or type(error).__name__})"
            if unusable > _UNUSABLE or tries > most:
                break
            pause = min(self.backoff * 2 ** (tries - 1), 30.0)
            wait = max(wait, pause * (1 - self._random.random() / 2))
            if not told and time.monotonic() - started + wait > _SILENCE:
                told = True
                warnings.warn(
                    f"{redacted(url)}: {trouble}; retrying, {most + 1 - tries} times at most.",
                    stacklevel=2,
                )
            time.sleep(wait)
        often = (
            f"after {tries} tries in {time.monotonic() - started:.0f} s"
            if tries > 1
            else "at the first try"
        )
        raise InputError(
            f"{redacted(url)} gave no usable response {often}: {trouble}.{self.advice}"
        )

    def _once(
        self, httpx2: Any, method: str, url: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        if not hasattr(self._thread, "http"):
            self._thread.http = httpx2.Client(timeout=self.timeout, headers=self.headers)
            self._thread.connection = _Connection()
        connection: _Connection = self._thread.connection
        options: dict[str, Any] = {"headers": headers, "extensions": {"trace": connection.trace}}
        try:
            with (
                connection.cut_after(self.timeout),
                self._thread.http.stream(method, url, content=content, **options) as response,
            ):
                if _declared_length(response.headers) > _LARGEST:
                    raise UnusableError(_TOO_LARGE)
                parts, size = [], 0
                for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _LARGEST:
                        raise UnusableError(_TOO_LARGE)
                if connection.is_cut:  # a body may end where its connection does
                    raise httpx2.ReadTimeout("too slow")
                known = {key.lower(): value for key, value in response.headers.items()}
                return Reply(response.status_code, known, b"".join(parts))
        except (httpx2.RequestError, OSError) as error:
            if connection.is_cut:
                raise httpx2.ReadTimeout("too slow") from error
            if isinstance(error, OSError):
                raise httpx2.ReadError(str(error)) from error
            raise

    def _refused(self, reply: Reply, url: str) -> tuple[str, float]:
        """What the server said, and how long to wait; raises where another try would not help."""
        said = f"it returned {reply.status}{_message(reply)}"
        if reply.status not in _LATER and reply.status < 500:
            where = reply.headers.get("location", "")
            moved = f" It has moved: {redacted(where)}." if where else ""
            kept = self.advice if self._answered else ""
            advice = _ADVICE.get(reply.status, "")
            raise InputError(f"{redacted(url)}: {said}.{moved}{advice}{kept}")
        wait = _seconds(reply.headers.get("retry-after", ""))
        if wait > self.longest_wait:
            raise InputError(
                f"{redacted(url)}: {said}, and says to retry in {wait:.0f} s.{self.advice}"
            )
        return said, wait


@final
class _Connection:
    """The connection of one thread, cut when a request takes too long.

    httpx's own limit is between two pieces: a server that sends its headers byte by byte would hold
    a request for ever.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self._socket: Any = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx at each step of a request."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.is_cut:
                self._cut()

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Run a request that ends, one way or the other, after this time."""
        self.is_cut = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.is_cut = True
        with suppress(OSError, TypeError):  # it is closed already, or there is none
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _declared_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def redacted(url: str) -> str:
    """An address for messages: without a password in front and a query behind.

    Args:
        url: The address.

    Example:
        >>> redacted("http://user:secret@host:8000/v2?key=secret")
        'http://host:8000/v2'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a server says where a model has moved, and may say anything
        return "an address that is none"
    host = parts.netloc.rpartition("@")[2]
    return plain(urlunsplit((parts.scheme, host, parts.path, "", "")), 300)


def _message(reply: Reply) -> str:
    """The server's own words, short: the `error` or `detail` of a JSON body, else the body's
    beginning.
    """
    text = reply.content[:2000].decode("utf-8", "replace")
    try:
        found = json.loads(text)
        text = (
            str(found.get("error") or found.get("detail") or text)
            if isinstance(found, dict)
            else text
        )
    except (ValueError, RecursionError):
        pass
    text = plain(text, 200)
    return f" ({text})" if text else ""


def plain(text: str, length: int) -> str:
    """One short line without control characters.

    Args:
        text: What a server sent.
        length: The most characters.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length]


def _seconds(text: str) -> float:
    """`Retry-After`: seconds or a date; 0 if it is neither."""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
