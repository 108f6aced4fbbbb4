"""The protocol: examples of the specification, and that nothing a server sends is worse than an
unusable answer.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saliencykit_http.client import Reply, UnusableError
from saliencykit_http.protocol import ModelInfo, read_info, read_response, write_request

from saliencykit import InputError

INFO = ModelInfo(("1",), "pixels", "FP32", (-1, 3, 2, 2), "logits", 4)
METADATA = {
    "name": "small",
    "versions": ["1", 2],
    "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, 2, 2]}],
    "outputs": [
        {"name": "winner", "datatype": "INT64", "shape": [-1]},
        {"name": "logits", "datatype": "FP32", "shape": [-1, 4]},
    ],
}
ANSWER = {
    "model_version": "1",
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4.5]}],
}


def reply(said, **headers):
    return Reply(200, headers, said if isinstance(said, bytes) else json.dumps(said).encode())


def test_metadata():
    info = read_info(METADATA, None, None, "it")
    assert info == ModelInfo(("1", "2"), "pixels", "FP32", (-1, 3, 2, 2), "logits", 4)
    assert read_info(METADATA, "pixels", "winner", "it").classes is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"inputs": 3, "outputs": []},
        {"inputs": [{"name": "x"}], "outputs": [{"name": "y"}]},
    ],
)
def test_metadata_of_another_kind(said):
    with pytest.raises(InputError, match="it "):
        read_info(said, None, None, "it")


def test_requests_in_json_are_exact():
    rows = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype("float32")
    content, headers = write_request(rows, INFO, binary=False)
    (tensor,) = json.loads(content)["inputs"]
    assert np.array_equal(np.array(tensor["data"], "float32").reshape(tensor["shape"]), rows)
    assert headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
def test_binary_requests(dtype):
    rows = (np.random.default_rng(0).random((2, 3, 2, 2)) * 255).astype(dtype)
    content, headers = write_request(rows, INFO, binary=True)
    length = int(headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(content[:length])["inputs"]
    assert tensor["parameters"]["binary_data_size"] == len(content) - length == rows.nbytes
    assert np.array_equal(np.frombuffer(content[length:], dtype).reshape(rows.shape), rows)


def test_answers():
    rows, version = read_response(reply(ANSWER), INFO, 2)
    assert rows.tolist() == [[1, 2], [3, 4.5]]
    assert version == "1"
    nested = {"outputs": [{"name": "logits", "shape": [2, 2], "data": [[1, 2], [3, 4.5]]}]}
    assert read_response(reply(nested), INFO, 2)[0].tolist() == [[1, 2], [3, 4.5]]
    column = {"outputs": [{"name": "logits", "shape": [2], "data": [1, 2]}]}
    assert read_response(reply(column), INFO, 2)[0].tolist() == [[1], [2]]


def test_binary_answers_with_another_tensor_in_front():
    other, mine = np.arange(3, dtype="<i8"), np.array([[1, 2], [3, 4.5]], "<f4")
    head = json.dumps(
        {
            "outputs": [
                {
                    "name": "x",
                    "datatype": "INT64",
                    "shape": [3],
                    "parameters": {"binary_data_size": other.nbytes},
                },
                {
                    "name": "logits",
                    "datatype": "FP32",
                    "shape": [2, 2],
                    "parameters": {"binary_data_size": mine.nbytes},
                },
            ]
        }
    ).encode()
    got, _ = read_response(
        reply(
            head + other.tobytes() + mine.tobytes(),
            **{"inference-header-content-length": str(len(head))},
        ),
        INFO,
        2,
    )
    assert got.tolist() == mine.tolist()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "parameters"]), inner)
    ),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.just("inference-header-content-length"),
    st.text(max_size=5) | st.integers(-5, 10**20).map(str),
    max_size=1,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_comes_is_an_answer_or_unusable(data):
    said = json.loads(json.dumps(ANSWER))
    tensor = said["outputs"][0]
    for key in data.draw(
        st.lists(st.sampled_from(["shape", "data", "parameters", "datatype", "name"]), max_size=3)
    ):
        tensor[key] = data.draw(anything)
    content = json.dumps(
        data.draw(st.sampled_from([said, {"outputs": data.draw(anything)}, data.draw(anything)]))
    ).encode()
    content = data.draw(
        st.sampled_from([content, content[: len(content) // 2], data.draw(st.binary(max_size=40))])
    )
    try:
        rows, version = read_response(Reply(200, data.draw(HEADERS), content), INFO, 2)
    except UnusableError as error:
        rows, version = np.zeros((2, 1)), str(error)
    assert rows.shape[0] == 2
    assert np.isfinite(rows).all()
    assert version is None or (isinstance(version, str) and len(version) < 400)


def test_the_version_is_a_text():
    assert read_response(reply({**ANSWER, "model_version": 7}), replace(INFO), 2)[1] == "7"
