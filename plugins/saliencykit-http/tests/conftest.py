"""A server on the loopback address that speaks the Open Inference Protocol, and misbehaves on
demand.
"""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from saliencykit import TorchBlackBox
from saliencykit.testing import small_network

torch.set_num_threads(1)  # small tensors: threads cost more than they bring

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16
NUMPY = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8", "UINT8": "u1"}


class Server:
    """`predict` from an array (B, C, H, W) to (B, K), behind http://127.0.0.1:PORT/v2/models/small.

    Attributes:
        faults: What goes wrong with the next requests for answers, one after the other; empty:
            nothing.
        images: How many images came in requests, each time they came.
        requests: How many requests for answers came.
        all_requests: Paths of all requests.
    """

    def __init__(
        self,
        predict,
        shape=(-1, 3, SIDE, SIDE),
        datatype="FP32",
        binary=False,
        classes=4,
        versions=("1",),
    ):
        self.predict, self.shape, self.datatype, self.binary, self.classes = (
            predict,
            shape,
            datatype,
            binary,
            classes,
        )
        self.versions, self.model_version = list(versions), "1"
        self.faults = deque()
        self.images = self.requests = 0
        self.all_requests, self.headers, self.batches = [], [], []
        self.hung = threading.Event()
        self.output = "logits"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._running = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v2/models/small"

    def start(self):
        handler = type("Handler", (Handler,), {"owner": self})
        self.connections = []
        self._running = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._running.daemon_threads = True
        threading.Thread(
            target=self._running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def stop(self):
        """As if it were killed: connections that are open are cut."""
        if self._running is not None:
            self.hung.set()
            self._running.shutdown()
            self._running.server_close()
            self._running = None
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def metadata(self):
        return {
            "name": "small",
            "versions": self.versions,
            "platform": "test",
            "inputs": [{"name": "pixels", "datatype": self.datatype, "shape": list(self.shape)}],
            "outputs": [{"name": self.output, "datatype": "FP32", "shape": [-1, self.classes]}],
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None

    def setup(self):
        super().setup()
        self.owner.connections.append(self.connection)

    def log_message(self, *words):
        pass

    def reply(self, status, content, kind="application/json", **more):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.owner.all_requests.append(self.path)
        self.owner.headers.append(dict(self.headers))
        if self.path == "/v2":
            said = {
                "name": "test",
                "extensions": ["binary_tensor_data"] if self.owner.binary else [],
            }
        elif self.path.startswith("/v2/models/small"):
            said = self.owner.metadata()
        else:
            self.reply(404, json.dumps({"error": "no such model"}).encode())
            return
        self.reply(200, json.dumps(said).encode())

    def do_POST(self):
        owner = self.owner
        body = self.rfile.read(int(self.headers["Content-Length"]))
        owner.all_requests.append(self.path)
        owner.headers.append(dict(self.headers))
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        said = json.loads(body[:length])
        (tensor,) = said["inputs"]
        assert tensor["name"] == "pixels"
        assert tensor["datatype"] == owner.datatype
        values = (
            np.frombuffer(body[length:], NUMPY[owner.datatype])
            if "data" not in tensor
            else np.array(tensor["data"])
        )
        rows = values.reshape(tensor["shape"]).astype(NUMPY[owner.datatype])
        owner.requests += 1
        owner.images += len(rows)
        owner.batches.append(len(rows))
        fault = owner.faults.popleft() if owner.faults else None
        if fault in ("500", "503", "429", "400", "413", "401"):
            wait = {"Retry_After": owner.retry_after} if getattr(owner, "retry_after", None) else {}
            self.reply(int(fault), json.dumps({"error": "out\nof order"}).encode(), **wait)
        elif fault == "hang":
            owner.hung.wait(30)
            self.close_connection = True
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"outputs"')
            self.close_connection = True
        elif fault == "drop":
            self.close_connection = True
        elif fault == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(100):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
                time.sleep(0.05)
            self.close_connection = True
        elif callable(fault):
            self.reply(200, fault(rows))
        else:
            self.answer(owner.predict(rows), bool(tensor.get("parameters")))

    def answer(self, values, binary):
        values = np.asarray(values, dtype="<f4")
        tensor = {"name": self.owner.output, "datatype": "FP32", "shape": list(values.shape)}
        said = {
            "model_name": "small",
            "model_version": self.owner.model_version,
            "outputs": [tensor],
        }
        if not binary:
            tensor["data"] = values.ravel().tolist()
            self.reply(200, json.dumps(said).encode())
            return
        tensor["parameters"] = {"binary_data_size": values.nbytes}
        head = json.dumps(said).encode()
        more = {"Inference_Header_Content_Length": str(len(head))}
        self.reply(200, head + values.tobytes(), "application/octet-stream", **more)


@pytest.fixture(scope="session")
def model():
    """4 classes, any size; normalized pixels in, logits out."""
    return small_network().eval()


@pytest.fixture
def torch_black_box(model):
    return TorchBlackBox(model, mean=MEAN, std=STD, size=SIDE)


@pytest.fixture(scope="session")
def predict(model):
    def answer(rows):
        with torch.inference_mode():
            return model(torch.from_numpy(np.array(rows, dtype=np.float32))).numpy()

    return answer


@pytest.fixture
def serve(predict):
    """`serve(...)` starts a Server; all are stopped at the end."""
    started = []

    def start(answer=predict, **options):
        started.append(Server(answer, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(serve):
    return serve()
