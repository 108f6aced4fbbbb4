"""A linear classifier behind the Open Inference Protocol, to be run as `linear_server.py PORT
DIES_AT` and killed.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import numpy as np

SIDE = 16
WEIGHTS = np.random.default_rng(0).normal(0, 0.05, (3 * SIDE * SIDE, 5))


def answer_of(rows):
    """Logits (B, 5) of images (B, 3, 16, 16)."""
    return rows.reshape(len(rows), -1).astype(np.float64) @ WEIGHTS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = count(1)
    dies_at = 0

    def log_message(self, *words):
        pass

    def reply(self, said):
        content = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        tensor = {"name": "pixels", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}
        self.reply(
            {
                "name": "linear",
                "inputs": [tensor],
                "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 5]}],
            }
        )

    def do_POST(self):
        (tensor,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        if next(self.requests) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        logits = answer_of(np.array(tensor["data"]).reshape(tensor["shape"]))
        entry = {
            "name": "y",
            "datatype": "FP64",
            "shape": list(logits.shape),
            "data": logits.ravel().tolist(),
        }
        self.reply({"model_name": "linear", "outputs": [entry]})


if __name__ == "__main__":
    Handler.dies_at = int(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
