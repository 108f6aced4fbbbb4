"""The command plan: what explaining many images will cost."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import complain, emit_json, print_table, say
from saliencykit.cli.options import as_label

_ARRAY = 64  # jobs


def plan(
    data: str,
    model: str = "demo",
    masker: str | None = None,
    budget: float | None = None,
    alternative: str | None = None,
    label: str | None = None,
    images: Annotated[int | None, typer.Option(min=1)] = None,
    sufficient: bool = False,
    destroying: bool = False,
    verify: bool = True,
    batch_size: int = 16,
    pixel_range: tuple[float, float] | None = None,
    output: Path = Path("run"),
    as_json: bool = False,
) -> None:
    """Measure 32 images, and print time, memory, bytes and commands for many.

    Args:
        masker: As for explain.
        budget: As for explain.
        alternative: As for explain.
        label: As for explain.
        images: Number of images; default: those in the data.
        sufficient: As for explain.
        destroying: As for explain.
        verify: As for explain.
        output: Run directory of the commands.
    """
    gpu = workflows.best_device().startswith("cuda")
    found = workflows.plan_run(
        workflows.black_box_on_device(model, "cpu", pixel_range),
        data,
        images=images,
        masker=masker,
        budget=budget,
        alternative=alternative,
        sufficient=sufficient,
        destroying=destroying,
        label=as_label(label),
        verify=verify,
        batch_size=batch_size,
        gpu_model=workflows.black_box_on_device(model, "cuda", pixel_range) if gpu else None,
    )
    options = ["--batch-size", str(batch_size)] if batch_size != 16 else []
    options += [] if pixel_range is None else ["--pixel-range", *map(str, pixel_range)]
    given = {"masker": masker, "budget": budget, "alternative": alternative, "label": label}
    options += [f"--{k}={value}" for k, value in given.items() if value is not None]
    switches = {"sufficient": sufficient, "destroying": destroying, "no-verify": not verify}
    options += [f"--{name}" for name, wanted in switches.items() if wanted]
    line = shlex.join(
        ["saliencykit", "explain", data, "--model", model, *options, "--output", str(output)]
    )
    commands = {
        "one machine": line,
        f"array of {_ARRAY}": f"{line} --shard auto/{_ARRAY}",
        "then, once": f"saliencykit merge {shlex.quote(str(output))}",
        "Ray": f"{line} --engine ray --ray-address auto",
    }
    if as_json:
        totals = {"cpu_hours": found.cpu_hours, "gpu_hours": found.gpu_hours}
        emit_json(asdict(found) | totals | {"bytes": found.total_bytes, "commands": commands})
        return
    _print(found, commands)


def _print(found: "workflows.RunPlan", commands: dict[str, str]) -> None:
    say(f"{found.images:,} images, from {found.measured} that were measured")
    rows = [
        ("queries", f"{found.queries:.4g}", f"{found.images * found.queries:.3g}"),
        ("CPU, one core", f"{found.cpu_seconds:.3g} s", _hours(found.cpu_hours)),
    ]
    if found.gpu_seconds is not None and found.gpu_hours is not None:
        rows.append(("GPU", f"{found.gpu_seconds:.3g} s", _hours(found.gpu_hours)))
    for form, size in found.bytes_per_image.items():
        rows.append((f"results, {form}", _bytes(size), _bytes(found.total_bytes[form])))
    if found.memory:
        rows.append(("memory of a worker", "", _bytes(found.memory)))
    print_table(("", "per image", "all"), rows)
    if found.failures:
        complain(f"{len(found.failures)} of these images failed: {found.failures[0]}")
    best = found.cpu_hours if found.gpu_hours is None else found.gpu_hours
    for name, command in commands.items():
        hours = {"one machine": best, f"array of {_ARRAY}": best / _ARRAY}.get(name)
        time = "" if hours is None else f" ({_hours(hours)} with one core or GPU each)"
        say(f"{name}{time}:")
        say(f"  {command}")


def _hours(hours: float) -> str:
    """Hours, in the unit that suits.

    Example:
        >>> _hours(0.01), _hours(1.5), _hours(100)
        ('36 s', '1.5 hours', '100 hours')
    """
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    return f"{hours * 60:.2g} min" if hours < 1 else f"{hours:.3g} hours"


def _bytes(size: float) -> str:
    """Bytes, in the unit that suits.

    Example:
        >>> _bytes(900), _bytes(1.25e9)
        ('900 B', '1.25 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
