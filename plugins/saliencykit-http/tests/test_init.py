"""The plugin: its names, the command line, and that importing it is cheap."""

import json
import os
import subprocess
import sys

import saliencykit_http


def run(*words, **more):
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "saliencykit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **more)


def test_the_hook_maps_names_to_factories():
    assert set(saliencykit_http.provide_black_boxes()) == {"http", "https"}


def test_importing_it_and_querying_for_its_names_loads_nothing_heavy():
    code = "import sys, saliencykit_http as it; it.provide_black_boxes(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx", "httpx2", "torchvision", "matplotlib"} & set(done.stdout.split())


def test_the_command_line_queries_a_server_once(server, tmp_path):
    options = (
        f"{server.url},mean=(0.485,0.456,0.406),std=(0.229,0.224,0.225),"
        f"cache={tmp_path / 'answers'}"
    )
    words = (
        "explain",
        "--json",
        "--model",
        options,
        "--masker",
        "rise:samples=20",
        "--output",
        tmp_path / "out",
    )
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert server.images == 1 + 20 + 3
    first = json.loads(done.stdout)
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert server.images == 1 + 20 + 3
    assert json.loads(again.stdout)["images"] == first["images"]


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    done = run(
        "explain",
        "--model",
        "http://127.0.0.1:9/v2/models/x,retries=0,mean=0,std=1",
        "--output",
        tmp_path / "out",
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "gave no usable response at the first try: there was no connection" in " ".join(
        done.stderr.split()
    )
    assert "Traceback" not in done.stderr
