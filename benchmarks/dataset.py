"""A folder of 2,000 images, explained: how much of the time is the networks', is the memory flat,
are the rows the same?

    python -m benchmarks.dataset                                  # a minute or two on a CPU
    python -m benchmarks.dataset --model torchvision:mobilenet_v2 --device cuda
    python -m benchmarks.dataset --kills 10 --processes 2         # the same rows after kills?
    python -m benchmarks.dataset --count 20000 --shards 2         # a long run, and in two workers

Images are those of Tiny-ImageNet's validation split, as files, in the data folder's order, and
again from the first one where more are wanted. The share of the networks is the sum of the rows'
seconds (prediction, mask, check) over the seconds of the call, which also lists the folder and
writes rows, maps and table. Memory is the process's own after each hundredth image, beside that
after the 300th. Each run is a process of its own.
"""

import argparse
import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.data import Pack, data_folder

_FIRST = 300  # images after which the memory is compared: caches have filled by then
_LATE = 0.5  # seconds after a row at most that a kill comes: anywhere between two blocks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--masker", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no-check", action="store_true", help="do not query the model again")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument(
        "--kills",
        type=int,
        default=0,
        help="so many SIGKILLs at random, each followed by another start",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="also with so many processes, by torchrun"
    )
    parser.add_argument(
        "--shards", type=int, default=1, help="also in so many workers at the same time"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument(
        "--one", type=Path, nargs=2, metavar=("DATA", "RUN"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments, *arguments.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = write_images(Path(folder) / "images", arguments.count)
        command = [sys.executable, "-m", "benchmarks.dataset", *sys.argv[1:], "--one", str(data)]
        whole = Path(folder) / "whole"
        facts = json.loads(
            subprocess.run(
                [*command, str(whole)], check=True, capture_output=True, text=True
            ).stdout
        )
        print(sentence(facts, arguments))
        if arguments.shards > 1:
            parts = [f"{number}/{arguments.shards}" for number in range(arguments.shards)]
            line = [*command, str(Path(folder) / "parts"), "--part"]
            workers = [subprocess.Popen([*line, part], stdout=subprocess.PIPE) for part in parts]
            for part, each in zip(parts, workers, strict=True):
                own = json.loads(each.communicate()[0])
                print(f"{part}: {1000 * own['processor'] / own['rows']:.1f} ms of processor time")
        if arguments.kills:
            killed = Path(folder) / "killed"
            done = kill_often(command, killed, arguments.kills, arguments.count)
            print(
                f"{arguments.kills} kills, at {', '.join(map(str, done))} rows: "
                f"{difference(whole, killed)}"
            )
        if arguments.processes > 1:
            launch = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc_per_node",
                str(arguments.processes),
            ]
            shared = Path(folder) / "shared"
            environment = (
                os.environ | {"ACCELERATE_USE_CPU": "true"}
                if arguments.device == "cpu"
                else dict(os.environ)
            )
            subprocess.run(
                [*launch, *command[1:], str(shared)],
                check=True,
                capture_output=True,
                env=environment,
            )
            print(f"{arguments.processes} processes: {difference(whole, shared)}")


def write_images(folder: Path, count: int) -> Path:
    """The first images of the validation split, as the JPEG files that they are."""
    pack = Pack(data_folder() / "tiny-imagenet-200" / "val.npz")
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:05}.jpg").write_bytes(pack.jpeg(i % len(pack.labels)))
    return folder


def measured(arguments: argparse.Namespace, data: Path, out: Path) -> dict[str, float]:
    """Explain the folder in this process, and watch it."""
    from saliencykit.cli.device import black_box_on_device
    from saliencykit.explanation import explain_dataset
    from saliencykit.storage import ExplainedRow

    memory: list[int] = []
    spent, rows = 0.0, 0

    def on_row(row: ExplainedRow, done: int, total: int | None) -> None:
        nonlocal spent, rows
        rows += 1
        spent += row.seconds or 0.0
        if done % 100 == 0 and done >= _FIRST:
            memory.append(resident())
            print(f"{done} of {total}: {memory[-1] / 2**20:.0f} MB", file=sys.stderr)

    black_box = black_box_on_device(arguments.model, arguments.device)
    started, used = time.perf_counter(), time.process_time()
    explain_dataset(
        black_box,
        data,
        output_dir=out,
        masker=arguments.masker,
        batch_size=arguments.batch,
        verify=not arguments.no_check,
        num_workers=arguments.workers,
        overlays=0,
        label="top",
        on_row=on_row,
        shard=arguments.part,
    )
    seconds = time.perf_counter() - started
    grown = max(memory) / memory[0] - 1 if memory else 0.0
    return {
        "rows": rows,
        "seconds": seconds,
        "networks": spent,
        "processor": time.process_time() - used,
        "memory": memory[0] if memory else 0,
        "grown": grown,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def resident() -> int:
    """Bytes that this process holds of its own, in memory or swapped out; of files that are mapped
    the system decides.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(1024 * int(lines[name].split()[0]) for name in ("RssAnon", "VmSwap"))


def sentence(facts: dict[str, float], arguments: argparse.Namespace) -> str:
    count, seconds = arguments.count, facts["seconds"]
    return (
        f"{arguments.model}, {count} images in {seconds:.1f} s ({count / seconds:.0f} a second; "
        f"{1000 * facts['processor'] / count:.1f} ms of processor time an image): "
        f"{facts['networks'] / seconds:.1%} of the time in the networks; "
        f"{facts['memory'] / 2**20:.0f} MB after {_FIRST} images, at most {facts['grown']:+.1%} "
        "later"
    )


def kill_often(command: list[str], out: Path, kills: int, count: int) -> list[int]:
    """Start and kill at random moments of the work, then let it end; the rows that were there at
    each kill.
    """
    moments, there = random.Random(0), []
    for _ in range(kills):
        process = subprocess.Popen(
            [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wanted = rows_in(out) + moments.randrange(1, 2 * count // (kills + 1))
        while process.poll() is None and rows_in(out) < min(wanted, count):
            time.sleep(0.05)
        time.sleep(moments.uniform(0, _LATE))
        process.send_signal(signal.SIGKILL)
        process.wait()
        there.append(rows_in(out))
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    return there


def rows_in(out: Path) -> int:
    """Rows that are written."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("blocks/*.jsonl"))


def difference(one: Path, other: Path) -> str:
    """How far two runs' tables and maps are apart."""
    from saliencykit.storage import SavedExplanations

    tables = [
        list(csv.DictReader((run / "table.csv").read_text(encoding="utf-8").splitlines()))
        for run in (one, other)
    ]
    same = [[(row["name"], row["index"], row["label"]) for row in table] for table in tables]
    if same[0] != same[1]:
        return "other images or labels"
    numbers = [
        [
            [float(row[name]) for name in ("probability", "area", "kept", "dropped") if row[name]]
            for row in t
        ]
        for t in tables
    ]
    far = max(
        (abs(a - b) for x, y in zip(*numbers, strict=True) for a, b in zip(x, y, strict=True)),
        default=0.0,
    )
    runs = [SavedExplanations.load(run) for run in (one, other)]
    maps = [
        a.map_of(x).sub(b.map_of(y)).abs().max().item()
        for a, b in [runs]
        for x, y in zip(a.rows(), b.rows(), strict=True)
    ]
    return f"{len(tables[0])} rows, numbers within {far:.1e}, maps within {max(maps):.1e}"


if __name__ == "__main__":
    main()
