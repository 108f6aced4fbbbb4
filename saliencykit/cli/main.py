"""The command line: explain | fit | surrogate | evaluate | compare | report | sanity | plugins |
doctor. Each calls one door.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from saliencykit.cli import evaluate, explain_dataset, explain_video, plugins, sanity, surrogate
from saliencykit.cli.console import (
    complain,
    console,
    explaining_bar,
    facts,
    gate_line,
    table,
    training_bar,
    warn,
)
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.cli.options import (
    AsJson,
    Device,
    Model,
    Seed,
    as_label,
    going_on,
    leads,
    training_folder,
)
from saliencykit.core.errors import SaliencyKitError
from saliencykit.storage.atomic_files import writable

app = typer.Typer(
    help="Which pixels does this decision rest on?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2; Ctrl-C is 130."""
    warnings.showwarning = warn
    try:
        app(standalone_mode=True)
    except SaliencyKitError as error:
        complain(f"Error: {error}")
        sys.exit(2)
    except (
        KeyboardInterrupt,
        SystemExit,
    ) as stop:  # typer turns the one into the other, without a word
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        complain("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if (
            isinstance(error, OSError) and error.filename is not None
        ):  # no permission, a name that is too long
            complain(f"Error: {str(error.filename)!r} cannot be read or written: {error.strerror}.")
            sys.exit(2)
        if os.environ.get("SALIENCYKIT_TRACEBACK"):
            raise
        complain(
            f"Unexpected {type(error).__name__}: {error}. This is a bug in saliencykit or in a "
            "plugin; run again with SALIENCYKIT_TRACEBACK=1 to see where."
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from saliencykit._version import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def explain(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, or one folder or CSV file of them, or one clip; default: a photo of a "
            "cat."
        ),
    ] = None,
    model: Model = "demo",
    label: Annotated[
        str | None,
        typer.Option(help="Class asked about, by index or name; default: the model's top class."),
    ] = None,
    masker: Annotated[
        str | None,
        typer.Option(help="How the mask is found, e.g. rise:samples=500; see `plugins`."),
    ] = None,
    alternative: Annotated[
        str | None, typer.Option(help="What replaces pixels in the check, e.g. blur:sigma=11.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    output: Annotated[
        Path, typer.Option(help="Directory for the overlay, the maps and the manifest.")
    ] = Path("explanation"),
    as_json: AsJson = False,
    verify: Annotated[
        bool,
        typer.Option(help="Ask the model again with the mask kept and with the mask replaced."),
    ] = True,
    labels: explain_dataset.Labels = None,
    max_images: explain_dataset.Limit = None,
    batch_size: explain_dataset.Batch = 16,
    map_dtype: explain_dataset.MapPrecision = "uint8",
    overlays: explain_dataset.Overlays = 24,
    num_workers: explain_dataset.Workers = None,
    resume: explain_dataset.Resume = True,
    fps: explain_video.Fps = None,
    smoothing: explain_video.Smooth = 0.75,
) -> None:
    """Find the pixels that a decision rests on; write an overlay and print class, probabilities,
    area and time.
    """
    if explain_video.is_clip(images, output):
        of_clip: dict[str, Any] = {
            "fps": fps,
            "smooth": smoothing,
            "device": device,
            "seed": seed,
            "as_json": as_json,
        }
        explain_video.explain_clip(images, model, label, masker, output, **of_clip)
        return
    if explain_dataset.is_dataset(images):
        of_folder: dict[str, Any] = {
            "max_images": max_images,
            "batch_size": batch_size,
            "map_dtype": map_dtype,
            "overlays": overlays,
        }
        of_folder |= {
            "labels": labels,
            "num_workers": num_workers,
            "resume": resume,
            "verify": verify,
            "masker": masker,
        }
        of_folder |= {
            "label": label,
            "alternative": alternative,
            "seed": seed,
            "device": device,
            "as_json": as_json,
        }
        explain_dataset.explain_folder((images or [""])[0], model, output, **of_folder)
        return
    from saliencykit.cli.query_counter import CountingBlackBox
    from saliencykit.explanation.result_files import refuse_run

    use_idle_cores()
    created = not output.exists()
    writable(output)
    refuse_run(output)
    try:
        started = time.perf_counter()
        black_box = black_box_on_device(model, device)
        pictures: Any = list(images) if images else [_embedded_picture()]
        from saliencykit.explanation.explain_images import explain as door

        with explaining_bar(len(pictures), quiet=as_json) as advance:
            watched = CountingBlackBox(black_box, advance)
            answer = door(
                watched,
                pictures,
                as_label(label),
                masker=masker,
                alternative=alternative,
                verify=verify,
                seed=seed,
            )
        answer.save(output)
    except BaseException:
        if created and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(json.dumps(facts(answer, images, output, seconds), indent=1))
    else:
        table(answer, images, output, seconds)


@app.command()
def fit(
    data: Annotated[str, typer.Option(help="Folder of training images; no labels needed.")],
    model: Model = "demo",
    output: Annotated[
        Path, typer.Option(help="The masker's file; checkpoints go beside it.")
    ] = Path("masker.safetensors"),
    area: Annotated[
        float | None,
        typer.Option(help="Wanted mean area of the masks, e.g. 0.3; default: the objective's."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="masking-network, paper-mean, authors, or terms joined by +.")
    ] = "masking-network",
    alternative: Annotated[str, typer.Option(help="What replaces pixels in training.")] = "choice",
    encoder: Annotated[str, typer.Option(help="auto, trunk, own or paper.")] = "auto",
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps; default: from the number of pictures.", min=1),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.", min=2)] = 16,
    mixed_precision: Annotated[str, typer.Option(help="no or bf16.")] = "no",
    device: Device = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option(help="Go on where a killed training stopped.")] = True,
) -> None:
    """Train a masker for a model, so that prediction and mask come from one pass; minutes on a CPU."""
    from saliencykit.training.fit_masker import fit as door

    folder = training_folder(output)
    use_idle_cores()
    started = time.perf_counter()
    leading = leads()
    with (
        going_on(f"the last checkpoint in {folder}", (folder / "state.safetensors").exists),
        training_bar(console(stderr=True, quiet=not leading)) as (on_step, on_message),
    ):
        masker = door(
            black_box_on_device(model, device),
            data,
            encoder=cast(Any, encoder),
            objective=objective,
            alternative=alternative,
            area=area,
            steps=steps,
            batch_size=batch_size,
            mixed_precision=mixed_precision,
            seed=seed,
            resume=resume,
            checkpoint_dir=folder,
            on_step=on_step,
            on_message=on_message,
        )
    if not leading:
        return
    masker.save(output)
    to = console()
    to.print(gate_line(masker.metadata["gate"]), soft_wrap=True)
    to.print(
        f"{output} written in {time.perf_counter() - started:.0f} s; log and pictures of masks in "
        f"{folder}",
        soft_wrap=True,
    )
    use = f"{model} --masker {output}"
    if model.endswith(
        ".safetensors"
    ):  # a surrogate: the masks are for the model that it stands for
        use = f"THE-MODEL-ITSELF --masker on-surrogate:{model},masker={output}"
    to.print(f"now: saliencykit explain PHOTO --model {use}", soft_wrap=True)


app.command()(evaluate.evaluate)
app.command()(evaluate.compare)
app.command()(evaluate.report)
app.command("sanity-check")(sanity.sanity)
app.command("fit-surrogate")(surrogate.surrogate)
app.add_typer(plugins.app, name="plugins")


@app.command()
def doctor() -> None:
    """Show versions, devices, plugins and whether the embedded default works; exit code 1 if
    something is broken.
    """
    from rich.table import Table

    health = Table("what", "state", box=None, header_style="bold", pad_edge=False)
    broken = False
    for what, state, fine in _examine():
        broken |= not fine
        health.add_row(what, state if fine else f"[red]{state}[/red]")
    console().print(health)
    if broken:
        raise typer.Exit(1)


def _examine() -> list[tuple[str, str, bool]]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from saliencykit._version import __version__

    rows = [
        ("python", platform.python_version(), True),
        ("saliencykit", __version__, True),
    ]
    hard = [
        "torch",
        "torchvision",
        "numpy",
        "scikit-image",
        "pillow",
        "pluggy",
        "safetensors",
        "typer",
        "rich",
    ]
    for package in [*hard, "timm", "captum", "accelerate"]:
        try:
            rows.append((package, version(package), True))
        except PackageNotFoundError:
            needed = package in hard
            rows.append((package, "missing" if needed else "not installed (optional)", not needed))
    devices = ["cpu"] + [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
    ]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    rows.append(("devices", ", ".join(devices), True))
    rows.append(("threads", str(torch.get_num_threads()), True))
    from saliencykit.registry.manager import registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = registry()
        for kind in ("black_box", "alternative", "term", "masker", "metric"):
            known.names(kind)
    for record in known.plugins:
        # what the user blocked is not broken
        fine = not record.failure or record.failure.startswith("disabled")
        rows.append((f"plugin {record.name}", record.failure or "works", fine))
    try:
        from saliencykit.registry.coerce import as_black_box

        black_box = as_black_box("demo")
        black_box(torch.rand(1, 3, 64, 64))
        rows.append(("embedded classifier", "works", True))
    except Exception as error:
        rows.append(("embedded classifier", str(error), False))
    return rows


def _embedded_picture() -> Any:
    from saliencykit.demo import demo_image

    return demo_image()
