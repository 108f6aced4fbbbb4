"""The command plan: its commands are those that run."""

import json

from saliencykit.demo import demo_image


def test_it_prints_costs_and_commands_that_work(command, tmp_path):
    (tmp_path / "my photos").mkdir()
    for angle in range(2):
        demo_image().rotate(angle).save(tmp_path / "my photos" / f"{angle}.png")
    line = ("plan", "--data", "my photos", "--masker", "center-box", "--images", "1000000")
    code, out, _ = command(*line)
    assert (code, "1,000,000 images, from 2 that were measured" in out) == (0, True)
    assert all(text in out for text in ("queries", "CPU, one core", "results, jsonl", "worker"))
    run = "saliencykit explain 'my photos' --model demo --masker=center-box --output run"
    assert f"{run} --shard auto/64" in " ".join(out.split())
    facts = json.loads(command(*line, "--budget", "0.1", "--destroying", "--json")[1])
    assert facts["cpu_hours"] > 0
    run = (
        "saliencykit explain 'my photos' --model demo --masker=center-box --budget=0.1 "
        "--destroying --output run"
    )
    assert facts["commands"] == {
        "one machine": run,
        "array of 64": f"{run} --shard auto/64",
        "then, once": "saliencykit merge run",
        "Ray": f"{run} --engine ray --ray-address auto",
    }


def test_data_that_do_not_exist_are_one_line(command):
    code, _, error = command("plan", "--data", "nothing")
    assert (code, error.count("\n")) == (2, 1)
