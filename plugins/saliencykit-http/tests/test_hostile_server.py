"""Servers that stall, flood, or declare what nobody can hold: one line, in time."""

import gzip
import json
import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from saliencykit_http.http_black_box import HttpBlackBox

from saliencykit import InputError

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def described(shape=(-1, 3, 16, 16), outputs=(-1, 4), **more):
    return {
        "name": "small",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": list(shape)}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": list(outputs)}],
    } | more


def reply(said):
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


class RawServer:
    """Describes a model, and lets `answer(connection)` write whatever it wants to each query."""

    def __init__(self, answer, metadata=None):
        self.answer, self.metadata = answer, metadata or reply(described())
        self.stopped, self.open = threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v2/models/small"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with suppress(OSError, ValueError), connection:
            file = connection.makefile("rb")
            while line := file.readline():
                length = 0
                while (header := file.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                file.read(length)
                if line.startswith(b"POST"):
                    self.answer(connection)
                else:
                    connection.sendall(self.metadata)

    def stop(self):
        self.stopped.set()
        for each in (self.listener, *self.open):
            each.close()


@pytest.fixture
def raw():
    servers = []

    def start(answer=lambda connection: None, metadata=None):
        servers.append(RawServer(answer, metadata))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def trickle(text):
    """One byte after the other, faster than any limit between two of them."""

    def answer(connection):
        connection.sendall(text)
        while True:
            connection.sendall(b"a")
            time.sleep(0.02)

    return answer


def flood(head, piece):
    def answer(connection):
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return answer


def at_once(content):
    return lambda connection: connection.sendall(content)


CHUNK = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
BOMB = gzip.compress(bytes(2**27))
STALLS = {
    "the status trickles": trickle(b"HTTP/1.1 20"),
    "a header trickles": trickle(OK + b"X: "),
    "the body trickles": trickle(OK + b"Content-Length: 100000\r\n\r\n"),
    "chunks trickle": trickle(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n"),
    "silence": lambda connection: time.sleep(20),
    "informational replies": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a gzip stream trickles": trickle(OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB[:500]),
}
FLOODS = {
    "long header": flood(OK + b"X: ", b"a" * 10_000),
    "many headers": flood(OK, b"X: a\r\n" * 1000),
    "long body": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),
    "declared length": at_once(OK + b"Content-Length: 1000000000000000\r\n\r\n"),
    "absurd length": at_once(OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"),
    "negative length": at_once(OK + b"Content-Length: -5\r\n\r\nhello"),
    "two lengths": at_once(OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello"),
    "gzip bomb": at_once(
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB
    ),
    "no gzip": at_once(OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"),
    "no HTTP": at_once(b"\x00\xff" * 100 + b"\r\n\r\n"),
    "nested": at_once(reply(b"[" * 200_000)),
    "moved nowhere": at_once(
        b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\nContent-Length: 0\r\n\r\n"
    ),
    "shape": at_once(reply({"outputs": [{"name": "logits", "shape": [10**30], "data": [1]}]})),
    "binary size": at_once(
        reply(
            {
                "outputs": [
                    {
                        "name": "logits",
                        "shape": [1, 4],
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": 10**30},
                    }
                ]
            }
        )
    ),
}


def black_box_of(server, **options):
    options = {"backoff": 0.01, "retries": 1, "timeout": 0.5} | options
    return HttpBlackBox(server.url, mean=(0.5,) * 3, std=(0.5,) * 3, binary=False, **options)


def one_line(error):
    assert str(error).isprintable()
    assert len(str(error)) < 700


@pytest.mark.parametrize("name", STALLS)
def test_a_server_that_stalls_is_given_up_in_time(raw, name):
    black_box = black_box_of(raw(STALLS[name]))
    assert black_box.num_classes == 4
    started = time.monotonic()
    with pytest.raises(InputError, match=r"no response within 0\.5 s") as raised:
        black_box(IMAGES[:1])
    assert time.monotonic() - started < 4
    one_line(raised.value)


@pytest.mark.parametrize("name", FLOODS)
def test_a_server_that_floods_or_lies_is_one_line(raw, name):
    black_box = black_box_of(raw(FLOODS[name]), timeout=20.0)
    started = time.monotonic()
    with pytest.raises(InputError, match="/v2/models/small/infer") as raised:
        black_box(IMAGES[:1])
    assert time.monotonic() - started < 10
    one_line(raised.value)


def test_the_connection_is_used_again_after_a_cut(raw):
    stalls = [True]

    def answer(connection):
        if stalls:
            stalls.clear()
            trickle(OK + b"X: ")(connection)
        data = {"name": "logits", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        connection.sendall(reply({"outputs": [data]}))

    black_box = black_box_of(raw(answer), retries=2)
    for _ in range(3):
        assert black_box(IMAGES[:1]).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "said",
    [
        described(outputs=(-1, 10**12)),
        described(shape=(-1, 3, 10**9, 10**9)),
        described(shape=(10**6, 3, 2000, 2000)),
        described(shape=(-5, 3, 16, 16)),
        described(shape=("many", 3, 16, 16)),
        described(outputs=[]),
        described(outputs=[-1, None]),
        described(inputs=[]),
        described(inputs={"pixels": 3}),
        described(inputs=[{"name": str(i), "shape": [1], "datatype": "x"} for i in range(10**4)]),
        described(outputs=[{"a": 1}]),
        described(versions="one"),
        described(inputs=[{"name": "x" * 10**5, "datatype": "FP32", "shape": [1]}]),
        [],
        "model",
        3,
        b"[" * 200_000,
        b'{"inputs": ' * 900,
    ],
    ids=lambda said: str(said)[:40],
)
def test_a_model_that_cannot_be_is_one_line(raw, said):
    with pytest.raises(InputError, match="/v2/models/small") as raised:
        black_box_of(raw(metadata=reply(said)))(IMAGES[:1])
    one_line(raised.value)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("declared", [True, False])
def test_another_number_of_classes_in_the_middle_is_an_error(serve, tmp_path, declared, cached):
    widths = iter([4, 4, 5, 5, 5])

    def answer(rows):
        return np.ones((len(rows), next(widths)))

    server = serve(answer)
    if not declared:
        server.metadata = lambda: described(outputs=[-1, -1])
    cache = tmp_path if cached else None
    black_box = black_box_of(server, max_batch_size=2, cache=cache)
    with pytest.raises(InputError, match=r"returned 5 numbers per image, and it has 4 classes"):
        black_box(IMAGES)
    assert black_box.num_classes == 4
    with pytest.raises(InputError, match="the model was replaced"):
        black_box(IMAGES[4:])
    if cached:
        again = black_box_of(server, cache=cache)
        assert again(IMAGES[:4]).shape == (4, 4), "only what fits was kept"


def test_a_server_that_declares_another_number_than_it_returns(serve):
    server = serve(lambda rows: np.ones((len(rows), 3)))
    with pytest.raises(InputError, match=r"returned 3 numbers per image, and it has 4 classes"):
        black_box_of(server)(IMAGES[:1])
