"""The black box against a real server: the same maps as torch and ONNX, retries, budget, cache."""

import json
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saliencykit_http.http_black_box import HttpBlackBox

from saliencykit import FunctionBlackBox, GradientError, InputError, explain
from saliencykit.registry.coerce import as_black_box
from saliencykit.testing import Counting, check_black_box

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16
IMAGES = torch.rand(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
SERVER = runpy.run_path(str(Path(__file__).with_name("linear_server.py")))
answer_of = SERVER["answer_of"]
QUICK = {"backoff": 0.01, "timeout": 5.0}
RISE = "rise:samples=60"
# the label, the masks, and what is kept, dropped and nothing of the image; two are the image again,
# to see whether the answers are the same, which a cache does not send
DIFFERENT = 1 + 60 + 3
QUERIES = DIFFERENT + 2


class Process:
    """`linear_server.py` in a process of its own, which kills itself at one request."""

    def __init__(self, dies_at):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v2/models/linear"
        self.exit = None
        self.running = self.started(dies_at)

    def started(self, dies_at):
        command = [
            sys.executable,
            str(Path(__file__).with_name("linear_server.py")),
            str(self.port),
            str(dies_at),
        ]
        return subprocess.Popen(command)

    def start_again(self):
        self.exit = self.running.wait(60)
        time.sleep(0.3)
        self.running = self.started(0)

    def end(self):
        self.running.kill()
        self.running.wait()


def black_box_of(server, **options):
    return HttpBlackBox(server.url, mean=MEAN, std=STD, **{**QUICK, **options})


def map_of(black_box, image=IMAGES[:1]):
    return explain(black_box, image, 1, masker=RISE, seed=3)


@pytest.fixture
def wanted(torch_black_box):
    return map_of(torch_black_box)


def close_to_rounding(one, other):
    return torch.allclose(one.mask, other.mask, atol=1e-4) and torch.allclose(
        one.attributions, other.attributions, atol=1e-4 * float(other.attributions.abs().max())
    )


# the same answers


@pytest.mark.parametrize(
    "options",
    [{}, {"binary": True}, {"shape": (3, 3, SIDE, SIDE)}, {"shape": (-1, 3, -1, -1)}],
    ids=str,
)
def test_the_answers_of_torch(serve, torch_black_box, options):
    server = serve(**options)
    black_box = black_box_of(server, size=SIDE)
    assert torch.allclose(black_box(IMAGES), torch_black_box(IMAGES), atol=1e-5)
    assert black_box.num_classes == 4
    assert black_box.baseline_color == MEAN
    assert black_box.input_size == (SIDE, SIDE)
    if options.get("binary"):
        assert "Inference-Header-Content-Length" in server.headers[-1]


@pytest.mark.parametrize("options", [{}, {"binary": True}, {"shape": (3, 3, SIDE, SIDE)}], ids=str)
def test_contract(serve, options):
    check_black_box(black_box_of(serve(**options)))


def test_torch_onnx_and_a_server_give_one_map_for_as_many_queries(
    serve, torch_black_box, model, tmp_path, predict
):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("saliencykit_onnx.onnx_black_box")
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        names = {
            "input_names": ["pixels"],
            "output_names": ["logits"],
            "dynamic_axes": {"pixels": {0: "b"}, "logits": {0: "b"}},
        }
        torch.onnx.export(model, (torch.rand(2, 3, SIDE, SIDE),), path, dynamo=False, **names)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    servers = [
        serve(),
        serve(lambda rows: session.run(["logits"], {"pixels": rows})[0], binary=True),
    ]
    counted = [Counting(torch_black_box), Counting(onnx.OnnxBlackBox(path, mean=MEAN, std=STD))]
    boxes = [*counted, *(black_box_of(server) for server in servers)]
    maps = [
        explain(black_box, IMAGES[:2], [1, 2], masker="rise:samples=200", seed=5)
        for black_box in boxes
    ]
    for other in maps[1:]:
        assert close_to_rounding(other, maps[0])
    queried = 2 + 2 + 2 * 200 + 2 * 3  # the first image twice, labels, masks, verdicts
    assert [black_box.num_images for black_box in counted] == [queried, queried]
    assert [server.images for server in servers] == [queried, queried]
    assert [black_box.sent for black_box in boxes[2:]] == [queried, queried]


def test_uint8_half_precision_and_channels_last(serve, predict, model):
    as_bytes = serve(lambda rows: predict(rows / 255), datatype="UINT8")
    rounded = (IMAGES * 255).round() / 255
    assert torch.allclose(HttpBlackBox(as_bytes.url, **QUICK)(IMAGES), model(rounded), atol=1e-5)
    half = serve(datatype="FP16", binary=True)
    assert torch.allclose(HttpBlackBox(half.url, **QUICK)(IMAGES), model(IMAGES), atol=2e-3)
    last = serve(lambda rows: predict(rows.transpose(0, 3, 1, 2) / 255), shape=(-1, SIDE, SIDE, 3))
    assert torch.allclose(
        HttpBlackBox(last.url, max_pixel_value=255, **QUICK)(IMAGES), model(IMAGES), atol=1e-5
    )


def test_texts(server):
    for text in (
        f"{server.url},max_batch_size=3,mean=0,std=1",
        f"http:{server.url},max_batch_size=3",
        f"http/http:{server.url},max_batch_size=3",
    ):
        black_box = as_black_box(text)
        assert black_box.url == server.url
        assert black_box.max_batch_size == 3
    assert (
        as_black_box("https://host/v2/models/x,size=24,cache=here").url
        == "https://host/v2/models/x"
    )
    assert as_black_box("https:https://host/v2/models/x").url == "https://host/v2/models/x"
    black_box = as_black_box(server.url)
    with pytest.warns(UserWarning, match="images go in as RGB in"):
        assert black_box.prepare(Image.new("RGB", (20, 30)))[0].shape == (1, 3, SIDE, SIDE)
    assert explain(
        f"{server.url},mean=0,std=1", IMAGES[0], 1, masker="rise:samples=8"
    ).mask.shape == (1, 1, SIDE, SIDE)


def test_maskers_that_need_gradients_say_so_before_any_query(server):
    with pytest.raises(GradientError, match="HttpBlackBox is query-only"):
        explain(black_box_of(server), IMAGES[:1], 0, masker="iterative")
    assert server.images <= 1  # the top class


# trouble


def nan(rows):
    return json.dumps(
        {
            "outputs": [
                {"name": "logits", "shape": [len(rows), 4], "data": [float("nan")] * 4 * len(rows)}
            ]
        }
    ).encode()


def fewer_rows(rows):
    return json.dumps(
        {
            "outputs": [
                {"name": "logits", "shape": [len(rows) + 1, 4], "data": [0.0] * 4 * (len(rows) + 1)}
            ]
        }
    ).encode()


def wrong_data(rows):
    return json.dumps(
        {"outputs": [{"name": "logits", "shape": [len(rows), 4], "data": [0.0] * 3}]}
    ).encode()


def words(rows):
    return json.dumps(
        {"outputs": [{"name": "logits", "shape": [len(rows), 1], "data": ["cat"] * len(rows)}]}
    ).encode()


FAULTS = {
    "500": "500", "503": "503", "429": "429", "hang": "hang", "cut": "cut",
    "drop": "drop", "trickle": "trickle",
    "nan": nan, "rows": fewer_rows, "data": wrong_data, "words": words,
    "garbage": lambda rows: b"\x00\xffgarbage", "empty": lambda rows: b"",
    "list": lambda rows: b"[1, 2]",
    "deep": lambda rows: b"[" * 100_000, "other": lambda rows: b'{"outputs": [{"name": "x", '
                                                               b'"shape": [1], "data": [1]}]}',
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_between_changes_nothing(server, wanted, fault):
    server.faults.extend([None, FAULTS[fault], None, FAULTS[fault], FAULTS[fault]])
    black_box = black_box_of(server, timeout=0.5)
    assert close_to_rounding(map_of(black_box), wanted)
    assert black_box.sent == server.images > QUERIES
    assert not server.faults


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_one_clear_error(server, fault):
    black_box = black_box_of(server, timeout=0.2, retries=3)
    assert black_box.num_classes == 4
    server.faults.extend([FAULTS[fault]] * 10)
    with pytest.raises(
        InputError,
        match=r"/v2/models/small/infer gave no usable response after \d tries in \d s: .*\. With "
        r"cache=",
    ) as raised:
        black_box(IMAGES[:1])
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 400
    assert server.requests <= 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("400", r"returned 400 \(out of order\)\.$"),
        ("413", "max_batch_size="),
        ("401", "token_variable="),
    ],
)
def test_what_another_try_would_not_help(server, fault, words):
    server.faults.append(fault)
    with pytest.raises(InputError, match=words):
        black_box_of(server)(IMAGES[:1])
    assert server.requests == 1


def test_a_refusal_on_the_way_says_where_the_outputs_are(server, tmp_path):
    black_box = black_box_of(server, cache=tmp_path)
    black_box(IMAGES[:1])
    server.faults.append("400")
    with pytest.raises(InputError, match=r"returned 400 .*are kept in '.*': run again to resume"):
        black_box(IMAGES[1:2])


def test_a_server_that_is_killed_and_comes_back(server, wanted):
    black_box = black_box_of(server, retries=12, backoff=0.05)
    counts = []

    def die():
        server.stop()
        counts.append(server.images)
        time.sleep(0.5)
        server.start()

    def fatal(rows):
        threading.Thread(target=die).start()
        time.sleep(0.1)
        return b""

    server.faults.extend([None, None, None, fatal])
    assert close_to_rounding(map_of(black_box), wanted)
    assert counts
    assert counts[0] < QUERIES <= server.images


def test_a_process_that_is_killed_and_started_again(tmp_path):
    server = Process(dies_at=5)
    options = {"backoff": 0.05, "timeout": 5.0, "retries": 30, "mean": 0, "std": 1}
    wanted = map_of(
        FunctionBlackBox(
            lambda images: answer_of(images.transpose(0, 3, 1, 2)), probabilities=False
        )
    )
    try:
        restart = threading.Thread(target=server.start_again)
        restart.start()
        black_box = HttpBlackBox(server.url, **options)
        got = map_of(black_box)
        restart.join()
    finally:
        server.end()
    assert close_to_rounding(got, wanted)
    assert server.exit == -signal.SIGKILL
    assert black_box.sent == QUERIES + 8  # the request that died with the server was sent twice


def test_a_server_that_stays_away_and_a_second_run(server, wanted, tmp_path):
    options = {"cache": tmp_path / "answers", "retries": 1}

    def fatal(rows):
        threading.Thread(target=server.stop).start()
        time.sleep(0.1)
        return b""

    server.faults.extend([None] * 4 + [fatal])
    with pytest.raises(
        InputError,
        match=r"there was no connection .*kept in '.*answers': run again to resume",
    ):
        map_of(black_box_of(server, **options))
    before = server.images
    server.start()
    second = black_box_of(server, **options)
    assert close_to_rounding(map_of(second), wanted)
    assert second.cached > 20
    assert second.sent == server.images - before == QUERIES - second.cached


def test_no_server_at_all():
    black_box = HttpBlackBox("http://127.0.0.1:9/v2/models/x", retries=1, backoff=0.01)
    with pytest.raises(
        InputError,
        match=r"http://127\.0\.0\.1:9/v2/models/x gave no usable response after 2 tries in 0 s: "
        r"there was no connection",
    ):
        black_box(IMAGES)
    assert black_box.sent == 0


def test_retry_after_is_obeyed_and_not_for_ever(server):
    server.retry_after = "0.3"
    server.faults.append("429")
    started = time.monotonic()
    black_box_of(server)(IMAGES[:1])
    assert time.monotonic() - started >= 0.3
    server.retry_after = "3600"
    server.faults.append("503")
    with pytest.raises(
        InputError, match=r"returned 503 \(out of order\), and says to retry in 3600 s\."
    ):
        black_box_of(server)(IMAGES[:1])
    server.retry_after = "Fri, 01 Jan 2100 00:00:00 GMT"
    server.faults.append("503")
    with pytest.raises(InputError, match="says to retry in"):
        black_box_of(server)(IMAGES[:1])


def test_another_version_in_the_middle_is_an_error(server):
    black_box = black_box_of(server)
    black_box(IMAGES)
    server.model_version = "2"
    with pytest.raises(
        InputError, match=r"version 2 responds, and before it was 1; the model was replaced"
    ):
        black_box(IMAGES)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_map_is_the_same_or_there_is_one_error_within_the_budget(
    server, wanted, tmp_path, seed
):
    chance = random.Random(seed)
    quick = [fault for name, fault in FAULTS.items() if name not in ("hang", "trickle")]
    ended = []
    for _ in range(20):
        server.faults.clear()
        server.faults.extend(
            chance.choice(quick) if chance.random() < 0.4 else None for _ in range(200)
        )
        before, limit = server.images, chance.choice([10, 25, 100])
        black_box = black_box_of(
            server,
            backoff=0.001,
            retries=2,
            cache=tmp_path,
            max_queries=limit,
            max_batch_size=chance.choice([1, 5, 16]),
        )
        try:
            answer = map_of(black_box)
        except InputError as error:
            ended.append(str(error))
        else:
            break
        finally:
            assert server.images - before == black_box.sent <= limit
    assert close_to_rounding(answer, wanted)
    assert all("gave no usable response" in text or "max_queries=" in text for text in ended)


# the budget


@pytest.mark.parametrize("limit", [1, 5, 20, DIFFERENT - 1])
@pytest.mark.parametrize("cached", [True, False])
def test_never_more_images_than_the_budget(server, limit, cached, tmp_path):
    server.faults.extend([None, "500", None, FAULTS["nan"]])
    black_box = black_box_of(server, max_queries=limit, cache=tmp_path if cached else None)
    with pytest.raises(
        InputError,
        match=rf"max_queries={limit} images may be sent, \d+ were, and the next request has \d+\. "
        r"(With cache=|.* are kept)",
    ):
        map_of(black_box)
    assert black_box.sent == server.images <= limit


def test_several_small_budgets_make_one_map(server, wanted, tmp_path):
    runs = 0
    while runs < 10:
        runs += 1
        black_box = black_box_of(server, max_queries=20, cache=tmp_path)
        try:
            answer = map_of(black_box)
            break
        except InputError as error:
            assert "max_queries=20" in str(error)  # noqa: PT017
    assert close_to_rounding(answer, wanted)
    assert runs == 4
    assert server.images == DIFFERENT  # nothing was lost, nothing queried twice


def test_a_budget_that_suffices_to_the_image(server, wanted):
    black_box = black_box_of(server, max_queries=QUERIES)
    assert close_to_rounding(map_of(black_box), wanted)
    assert black_box.sent == QUERIES


def test_copies_that_fill_up_a_batch_are_counted(serve):
    server = serve(shape=(3, 3, SIDE, SIDE))
    black_box = black_box_of(server, max_queries=8)
    black_box(IMAGES[:4])
    assert black_box.sent == server.images == 6
    with pytest.raises(InputError, match="6 were, and the next request has 3"):
        black_box(IMAGES[:1])


# the cache


def test_a_second_run_sends_nothing(server, wanted, tmp_path):
    first = black_box_of(server, cache=tmp_path)
    assert close_to_rounding(map_of(first), wanted)
    before = server.requests, server.images
    second = black_box_of(server, cache=tmp_path, max_queries=1)
    again = map_of(second)
    assert torch.equal(again.mask, map_of(first).mask)
    assert (server.requests, server.images) == before
    assert (second.sent, second.cached) == (0, QUERIES)
    server.stop()
    with pytest.warns(UserWarning, match="outputs come from the cache only"):
        assert torch.equal(map_of(black_box_of(server, cache=tmp_path)).mask, again.mask)


def test_what_makes_an_answer_another_one(serve, tmp_path):
    server = serve()
    black_box_of(server, cache=tmp_path)(IMAGES)
    assert server.images == 7
    black_box_of(server, cache=tmp_path, max_batch_size=2)(
        IMAGES.flip(0)
    )  # neither order nor batch
    assert server.images == 7
    HttpBlackBox(server.url, max_pixel_value=255, cache=tmp_path, **QUICK)(
        IMAGES
    )  # other numbers are sent
    assert server.images == 14
    server.versions = ["1", "2"]
    black_box_of(server, cache=tmp_path)(IMAGES)
    assert server.images == 21
    black_box_of(server, cache=tmp_path, version="mine")(IMAGES)
    assert server.images == 28
    other = serve()
    black_box_of(other, cache=tmp_path)(IMAGES)
    assert other.images == 7


# a pair of functions


def encode(images):
    assert images.dtype == np.float32
    assert images.shape[3] == 3
    return {"inputs": [{"name": "pixels", "datatype": "FP32",
        "shape": [len(images), 3, SIDE, SIDE],
                        "data": images.transpose(0, 3, 1, 2).ravel().tolist()}]}  # fmt: skip


def decode(answer):
    return np.array(answer["outputs"][0]["data"]).reshape(answer["outputs"][0]["shape"])


def test_two_functions_speak_to_anything(server, model, tmp_path):
    options = {"encode": encode, "decode": decode, "size": SIDE, "cache": tmp_path, **QUICK}
    black_box = HttpBlackBox(f"{server.url}/infer", **options)
    assert torch.allclose(black_box(IMAGES), model(IMAGES), atol=1e-5)
    check_black_box(black_box)
    assert repr(black_box).endswith(
        "/v2/models/small/infer', size=16, encode=encode, decode=decode)"
    )
    before = server.images
    assert HttpBlackBox(
        f"{server.url}/infer", encode=encode, decode=decode, size=SIDE, cache=tmp_path, **QUICK
    )(IMAGES).shape == (7, 4)
    assert server.images == before
    assert not any(
        path.startswith("/v2/models/small") and "infer" not in path for path in server.all_requests
    )


def test_functions_that_fail(server):
    def broken(thing):
        raise KeyError("scores")

    options = {"size": SIDE, "retries": 5, **QUICK}
    with pytest.raises(
        InputError, match=r"broken could not decode the response \(KeyError: 'scores'\)"
    ):
        HttpBlackBox(f"{server.url}/infer", encode=encode, decode=broken, **options)(IMAGES[:1])
    assert server.requests == 3  # an answer that cannot be used is wanted twice again, no more
    with pytest.raises(InputError, match=r"broken failed on images \(1, 16, 16, 3\): KeyError"):
        HttpBlackBox(f"{server.url}/infer", encode=broken, decode=decode, **options)(IMAGES[:1])
    assert server.requests == 3


# options


def test_headers_and_tokens(server, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret-word")
    black_box = black_box_of(server, headers={"X-Mine": "yes"}, token_variable="MY_TOKEN")
    black_box(IMAGES[:1])
    assert all(
        sent["X-Mine"] == "yes" and sent["Authorization"] == "Bearer secret-word"
        for sent in server.headers
    )
    assert "secret-word" not in repr(black_box)
    assert repr(black_box) == f"HttpBlackBox('{server.url}', mean={MEAN}, std={STD})"
    with pytest.raises(InputError, match="no token in the environment variable 'OTHER'"):
        black_box_of(server, token_variable="OTHER")


def test_passwords_are_never_shown(server):
    black_box = HttpBlackBox(
        server.url.replace("//", "//me:pass@").replace("small", "other"), **QUICK
    )
    with pytest.raises(InputError, match=r"returned 404 \(no such model\)") as raised:
        black_box(IMAGES[:1])
    assert "pass" not in str(raised.value) + repr(black_box)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"url": "resnet"},
            r"takes an address like http://host:8000/v2/models/resnet; got 'resnet'",
        ),
        ({"url": "ftp://host/x"}, "takes an address"),
        ({"url": "http://host:port/x"}, "takes an address"),
        ({"url": None}, "takes an address"),
        ({"encode": encode}, "two functions together"),
        (
            {"encode": encode, "decode": decode, "mean": 0, "std": 1},
            "prepares them itself; leave out mean, std",
        ),
        ({"output": "logits"}, "output='logits'.*'softmax'"),
        ({"max_batch_size": 0}, "max_batch_size=0.*a whole number >= 1"),
        ({"max_queries": 0}, "max_queries=0.*a whole number >= 1"),
        ({"retries": -1}, "retries=-1.*a whole number >= 0"),
        ({"timeout": 0}, r"timeout=0.*a number in \(0, inf\)"),
        ({"backoff": -1}, r"backoff=-1.*a number in \[0, inf\)"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        HttpBlackBox(**{"url": "http://host/v2/models/x", **options})


def test_addresses_of_something_else(server, serve):
    with pytest.raises(
        InputError, match="is not the address of a model in the Open Inference Protocol"
    ):
        HttpBlackBox(f"http://127.0.0.1:{server.port}/predict", **QUICK)(IMAGES)
    with pytest.raises(InputError, match="has the outputs logits; write output_name="):
        black_box_of(server, output_name="x")(IMAGES)
    with pytest.raises(InputError, match="has no input 'x'; its inputs are pixels"):
        black_box_of(server, input_name="x")(IMAGES)
    with pytest.raises(InputError, match="takes BYTES; images are sent as FP32"):
        black_box_of(serve(datatype="BYTES"))(IMAGES)
    with pytest.raises(InputError, match="four axes"):
        black_box_of(serve(shape=(-1, 5)))(IMAGES)
    with pytest.raises(InputError, match="has 4 classes, and 2 class_names"):
        black_box_of(server, class_names=["a", "b"])(IMAGES)
