"""The same images through one process and through each engine: are the rows the same?

    OMP_NUM_THREADS=1 nice -n 15 python -m benchmarks.engines --images 2000

Needs pyarrow, ray, datasets, accelerate and pyspark (with Java). Every process computes with one
thread, and every batch has 10 images: the last digits of a network's sums may depend on how many
images are queried together. Prints, for each engine, the seconds and what differs from one process.
`--only` runs some of them, and `--write` puts the table into docs/results/speed.md.
"""

import argparse
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.tables import put_into
from saliencykit import BatchExplainer, SavedExplanations, explain_dataset, merge_shards
from saliencykit.demo import demo_image

Rows = dict[str, dict[str, Any]]
EXPLAIN = {"label": "top", "batch_size": 10}
SHARDS, KILLS = 4, 10
NUMBERS = ("probability", "kept", "dropped", "area")


def make_photos(folder: Path, count: int) -> list[dict[str, Any]]:
    """Crops of the demo photo as PNG files, each 96 px; their names and bytes."""
    photo, draw = demo_image(), np.random.default_rng(0)
    folder.mkdir(parents=True)
    photos = []
    for number in range(count):
        side = int(draw.integers(min(photo.size) // 3, min(photo.size)))
        left, top = (int(draw.integers(0, size - side + 1)) for size in photo.size)
        crop = photo.crop((left, top, left + side, top + side)).rotate(90 * int(draw.integers(4)))
        file, name = io.BytesIO(), f"{number:05}.png"
        crop.resize((96, 96)).save(file, "PNG")
        (folder / name).write_bytes(file.getvalue())
        photos.append({"id": name, "image": file.getvalue()})
    return photos


def saved_rows(saved: SavedExplanations) -> Rows:
    """The rows of a run by name, each with its mask at the masker's own resolution."""
    return {
        row.name: {name: getattr(row, name) for name in ("label", "verdict", *NUMBERS)}
        | {"mask": (saved.map_of(row)[0, 0] * 255).round().to(torch.uint8).numpy()}
        for row in saved.rows()
    }


def batch_rows(columns: dict[str, Any]) -> Rows:
    """The rows of batches of `BatchExplainer` by id."""
    names = ("label", "verdict", *NUMBERS)
    return {
        str(name): {each: columns[each][i] for each in names}
        | {"mask": np.asarray(Image.open(io.BytesIO(columns["mask"][i])))}
        for i, name in enumerate(columns["id"])
    }


def one_process(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    torch.set_num_threads(1)
    return saved_rows(explain_dataset("demo", folder / "photos", output_dir=out, **EXPLAIN))


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The command line that explains the photos."""
    line = ["-m", "saliencykit", "explain", str(folder / "photos"), "--output", str(out)]
    return [*line, "--label", "top", "--batch-size", "10", "--device", "cpu", *more]


def two_processes(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    subprocess.run([*launch, *command(folder, out)], check=True, stdout=subprocess.DEVNULL)
    return saved_rows(SavedExplanations.load(out))


def four_shards(folder: Path, photos: list[dict[str, Any]], out: Path, kills: int = 0) -> Rows:
    """Four processes that do not know each other; some are killed at random, and start again."""
    fork, options = (
        multiprocessing.get_context("fork"),
        {"output_dir": out, "overlays": 0, **EXPLAIN},
    )

    def start(number: int) -> Any:
        more = {"shard": (number, SHARDS), "num_workers": 1, **options}
        child = fork.Process(target=explain_dataset, args=("demo", folder / "photos"), kwargs=more)
        child.start()
        return child

    draw, lost = np.random.default_rng(0), 0
    running = {number: start(number) for number in range(SHARDS)}
    while lost < kills:
        time.sleep(float(draw.uniform(0.2, 3)))
        number = int(draw.integers(SHARDS))
        running[number].kill()
        running[number].join()
        lost += running[number].exitcode == -signal.SIGKILL  # others had finished: they run again
        running[number] = start(number)
    for each in running.values():
        each.join()
    codes = [each.exitcode for each in running.values()]
    print(f"{lost} killed, exit codes {codes}, {len(list((out / 'blocks').iterdir()))} files")
    return saved_rows(merge_shards(out))


def four_shards_killed(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    return four_shards(folder, photos, out, KILLS)


def hugging_face(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    import datasets

    images = datasets.Dataset.from_list(photos).cast_column("image", datasets.Image(decode=False))
    mapped = images.map(
        BatchExplainer("demo", **EXPLAIN),
        batched=True,
        batch_size=EXPLAIN["batch_size"],
        remove_columns="image",
        load_from_cache_file=False,
    )
    return batch_rows(mapped.to_dict())


def ray_engine(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    from saliencykit.explanation.cluster_explainer import explain_on

    options = {"num_workers": 2, **EXPLAIN}
    saved = explain_on("ray", load, str(folder / "photos"), output_dir=out, **options)
    return saved_rows(saved)


def ray_engine_with_kills(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    """Kills a worker every 20 seconds."""
    with killer("ray::_run"):
        return ray_engine(folder, photos, out)


def ray_data(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    import ray

    ray.init(
        "local", num_cpus=4, log_to_driver=False, include_dashboard=False, ignore_reinit_error=True
    )
    try:
        explained = ray.data.from_items(photos, override_num_blocks=2).map_batches(
            BatchExplainer,
            fn_constructor_kwargs={"model": "demo", **EXPLAIN},
            batch_size=EXPLAIN["batch_size"],
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        return batch_rows(explained.to_pandas().to_dict("list"))
    finally:
        ray.shutdown()


def spark(folder: Path, photos: list[dict[str, Any]], out: Path) -> Rows:
    import pandas
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.executorEnv.OMP_NUM_THREADS", "1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(EXPLAIN["batch_size"]))
        .getOrCreate()
    )
    schema = (
        "id string, label bigint, label_name string, predicted bigint, predicted_name string, "
        "probability double, kept double, dropped double, area double, verdict string, "
        "height bigint, width bigint, mask binary, failure string"
    )
    try:
        images = session.createDataFrame(pandas.DataFrame(photos), "id string, image binary")
        explain = BatchExplainer("demo", **EXPLAIN)
        explained = images.mapInPandas(lambda frames: map(explain, frames), schema)
        return batch_rows(explained.toPandas().to_dict("list"))
    finally:
        session.stop()


ENGINES: dict[str, Callable[[Path, list[dict[str, Any]], Path], Rows]] = {
    "one process": one_process,
    "two processes": two_processes,
    "four shards": four_shards,
    "four shards, ten killed": four_shards_killed,
    "datasets.map": hugging_face,
    "Spark, local[2]": spark,
    "Ray Data, 2 actors": ray_data,
    "--engine ray, 2 workers": ray_engine,
    "--engine ray, workers killed": ray_engine_with_kills,
}


def load() -> str:
    """The model of Ray's workers."""
    return "demo"


def differences(one: Rows, other: Rows) -> dict[str, float]:
    """How much the rows differ: images that only one has, labels and masks that differ, and the
    largest difference of a number.
    """
    both = one.keys() & other.keys()
    return {
        "images": len(one.keys() ^ other.keys()),
        "labels": sum(
            (one[name][each] != other[name][each]) for name in both for each in ("label", "verdict")
        ),
        "masks": sum(not np.array_equal(one[name]["mask"], other[name]["mask"]) for name in both),
        "numbers": max(abs(one[n][each] - other[n][each]) for n in both for each in NUMBERS),
    }


@contextmanager
def killer(title: str, every: float = 20.0) -> Iterator[list[int]]:
    """Kill a child of this process whose title begins so, at random, every so many seconds."""
    stop, killed = threading.Event(), list[int]()

    def work() -> None:
        draw = np.random.default_rng(0)
        while not stop.wait(every):
            if found := [pid for pid in descendants(os.getpid()) if titled(pid, title)]:
                pid = int(draw.choice(found))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()
        print(f"killed {len(killed)} workers")


def titled(pid: int, title: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title.encode())
    return False


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that these started."""
    parents = dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = list[int](), [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def table_line(engine: str, seconds: float, differing: dict[str, float]) -> str:
    """The engine's line of the table on the page."""
    there = [f"{count:.3g} {name}" for name, count in differing.items() if count]
    same = f"differ: {', '.join(there)}" if there else "rows and masks the same to the bit"
    return f"| {engine} | {seconds:.0f} | {same} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=list(ENGINES), help="; ".join(ENGINES))
    parser.add_argument("--write", action="store_true", help="into docs/results/speed.md")
    options = parser.parse_args()
    count, wanted = options.images, None
    lines = [f"| {count:,} images, batches of 10 | seconds | beside one process |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = make_photos(folder / "photos", count)
        for engine in options.only:
            explain = ENGINES[engine]
            started = time.perf_counter()
            rows = explain(folder, photos, folder / f"run-{engine}")
            seconds, wanted = time.perf_counter() - started, wanted or rows
            lines.append(table_line(engine, seconds, differences(wanted, rows)))
            print(lines[-1], flush=True)
    if options.write:
        put_into(Path("docs/results/speed.md"), "engines", "\n".join(lines))


if __name__ == "__main__":
    main()
