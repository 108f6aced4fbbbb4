"""The command line: explain | fit | plugins | doctor. Each parses, calls one door, and prints."""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from saliencykit.core.errors import InputError, SaliencyKitError

if TYPE_CHECKING:
    from rich.console import Console

    from saliencykit.core.explanation import Explanation

app = typer.Typer(
    help="Which pixels does this decision rest on?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2; Ctrl-C is 130."""
    warnings.showwarning = _warn
    try:
        app(standalone_mode=True)
    except SaliencyKitError as error:
        _complain(f"Error: {error}")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns the one into the other, without a word
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        _complain("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("SALIENCYKIT_TRACEBACK"):
            raise
        _complain(
            f"Unexpected {type(error).__name__}: {error}. This is a bug in saliencykit or in a plugin; run again with "
            "SALIENCYKIT_TRACEBACK=1 to see where."
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import saliencykit

        typer.echo(saliencykit.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def explain(
    images: Annotated[list[str] | None, typer.Argument(help="Pictures; without any, the embedded photo of a cat.")] = None,
    model: Annotated[str, typer.Option(help="A model by name: demo, timm:resnet18, torchvision:mobilenet_v2, ...")] = "demo",
    label: Annotated[str | None, typer.Option(help="Class asked about, by index or name; default: the model's top class.")] = None,
    masker: Annotated[str | None, typer.Option(help="How the mask is found, e.g. rise:samples=500; see `plugins`.")] = None,
    alternative: Annotated[str | None, typer.Option(help="What replaces pixels in the check, e.g. blur:sigma=11.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Directory for the overlay, the maps and the manifest.")] = Path("explanation"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Find the pixels that a decision rests on; write an overlay and print class, probabilities, area and time."""
    from saliencykit.saving import writable
    from saliencykit.watching import Watched

    _use_idle_cores()
    created = not out.exists()
    writable(out)
    try:
        started = time.perf_counter()
        box = _box(model, device)
        pictures: Any = list(images) if images else [_embedded_picture()]
        from saliencykit.explaining import explain as door

        wanted: Any = int(label) if label is not None and label.lstrip("-").isdigit() else label
        with _progress(len(pictures), quiet=as_json) as advance:
            watched = Watched(box, advance)
            answer = door(watched, pictures, wanted, masker=masker, alternative=alternative, seed=seed)
        answer.save(out)
    except BaseException:
        if created and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(json.dumps(_facts(answer, images, out, seconds), indent=1))
    else:
        _table(answer, images, out, seconds)


@app.command()
def fit(
    images: Annotated[Path, typer.Option(help="Folder of training pictures; no labels are needed.")],
    model: Annotated[str, typer.Option(help="A model by name: demo, timm:resnet18, torchvision:mobilenet_v2, ...")] = "demo",
    out: Annotated[Path, typer.Option(help="The masker's file; checkpoints go beside it.")] = Path("masker.safetensors"),
    area: Annotated[float | None, typer.Option(help="Wanted mean area of the masks, e.g. 0.3; default: the objective's.")] = None,
    objective: Annotated[str, typer.Option(help="masking-network, paper-mean, authors, or terms joined by +.")] = "masking-network",
    alternative: Annotated[str, typer.Option(help="What replaces pixels in training.")] = "choice",
    encoder: Annotated[str, typer.Option(help="auto, trunk, own or paper.")] = "auto",
    steps: Annotated[int | None, typer.Option(help="Training steps; default: from the number of pictures.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Pictures a step.", min=2)] = 16,
    precision: Annotated[str, typer.Option(help="no or bf16.")] = "no",
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Go on where a killed training stopped.")] = True,
) -> None:
    """Train a masker for a model, so that prediction and mask come from one pass; minutes on a CPU."""
    from saliencykit.fitting import fit as door

    if out.suffix != ".safetensors":
        raise InputError(f"--out is a file that ends in .safetensors; got {str(out)!r}.")
    _use_idle_cores()
    started = time.perf_counter()
    folder = out.with_name(f"{out.stem}-training")
    with _training(_console(stderr=True)) as (on_step, on_news):
        masker = door(
            _box(model, device),
            images,
            encoder=cast(Any, encoder),
            objective=objective,
            alternative=alternative,
            area=area,
            steps=steps,
            batch=batch,
            precision=precision,
            seed=seed,
            resume=resume,
            folder=folder,
            on_step=on_step,
            on_news=on_news,
        )
    masker.save(out)
    gate = masker.facts["gate"]
    console = _console()
    console.print(
        f"held out, {gate['n']} pictures: area {gate['area']:.1%}, kept {gate['kept']:.1%}, dropped {gate['dropped']:.1%} (whole "
        f"{gate['whole']:.1%}); a class "
        f"that is not there gets {gate['fake']:.2f} of the area; mosaics {gate['mosaic']:.2f} (chance 0.25)"
    )
    console.print(f"{out} written in {time.perf_counter() - started:.0f} s; log and pictures of masks in {folder}", soft_wrap=True)
    console.print(f"now: saliencykit explain PHOTO --model {model} --masker {out}", soft_wrap=True)


@app.command()
def plugins() -> None:
    """List everything that has a name, and the plugins that were left out with the reason."""
    from rich.table import Table

    from saliencykit.registry import KINDS, registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table below says it
        known = registry()
        named = {kind: known.names(kind) for kind in KINDS}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    for kind, names in named.items():
        for full, factory in names.items():
            table.add_row(kind.replace("_", " "), full, _first_sentence(factory))
    console = _console()
    console.print(table)
    console.print()
    state = Table("plugin", "from", "state", box=None, header_style="bold", pad_edge=False)
    for record in known.plugins:
        state.add_row(record.name, record.origin, f"[red]left out:[/red] {record.failure}" if record.failure else "works")
    console.print(state)


@app.command()
def doctor() -> None:
    """Show versions, devices, plugins and whether the embedded default works; exit code 1 if something is broken."""
    from rich.table import Table

    table = Table("what", "state", box=None, header_style="bold", pad_edge=False)
    broken = False
    for what, state, fine in _examine():
        broken |= not fine
        table.add_row(what, state if fine else f"[red]{state}[/red]")
    _console().print(table)
    if broken:
        raise typer.Exit(1)


def _examine() -> list[tuple[str, str, bool]]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    import saliencykit

    rows = [("python", platform.python_version(), True), ("saliencykit", saliencykit.__version__, True)]
    hard = ["torch", "torchvision", "numpy", "scikit-image", "pillow", "pluggy", "safetensors", "typer", "rich"]
    for package in [*hard, "timm", "captum", "accelerate"]:
        try:
            rows.append((package, version(package), True))
        except PackageNotFoundError:
            needed = package in hard
            rows.append((package, "missing" if needed else "not installed (optional)", not needed))
    devices = ["cpu"] + [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    rows.append(("devices", ", ".join(devices), True))
    rows.append(("threads", str(torch.get_num_threads()), True))
    from saliencykit.registry import registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = registry()
        for kind in ("black_box", "alternative", "term", "masker", "metric"):
            known.names(kind)
    for record in known.plugins:
        fine = not record.failure or record.failure.startswith("disabled")  # what the user blocked is not broken
        rows.append((f"plugin {record.name}", record.failure or "works", fine))
    try:
        from saliencykit.registry import as_black_box

        box = as_black_box("demo")
        box(torch.rand(1, 3, 64, 64))
        rows.append(("embedded classifier", "works", True))
    except Exception as error:
        rows.append(("embedded classifier", str(error), False))
    return rows


def _box(model: str, device: str) -> Any:
    import torch

    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.registry import as_black_box

    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    box = as_black_box(model)
    if isinstance(box, TorchBlackBox):
        try:
            box.model.to(torch.device(best if device == "auto" else device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"--device {device} cannot be used: {reason} This machine has: cpu, {best}.") from error
    elif device not in ("auto", "cpu"):
        raise InputError(f"--device {device}: {model} decides by itself where it computes; leave the option away.")
    return box


def _use_idle_cores() -> None:
    """No more threads than idle cores: a thread that shares a busy core keeps all others waiting at every layer."""
    import torch

    if not os.environ.get("OMP_NUM_THREADS") and hasattr(os, "getloadavg"):
        idle = (os.cpu_count() or 1) - round(os.getloadavg()[0])
        torch.set_num_threads(max(1, min(torch.get_num_threads(), idle)))


def _embedded_picture() -> Any:
    from saliencykit.demo import demo_picture

    return demo_picture()


def _progress(images: int, *, quiet: bool) -> Any:
    """A bar on stderr that shows itself after a second: images explained and evaluations of the model so far."""
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Any:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        count = TextColumn("{task.completed:.0f} evaluations")
        columns = (SpinnerColumn(), TextColumn("{task.description}"), count, TimeElapsedColumn())
        console = _console(stderr=True)
        progress = Progress(*columns, console=console, transient=True)
        task = progress.add_task(f"explaining {images} image{'s' if images != 1 else ''}", total=None)
        started = time.perf_counter()
        shown = False

        def advance(count: int) -> None:
            nonlocal shown
            progress.update(task, advance=count)
            if not shown and not quiet and console.is_terminal and time.perf_counter() - started > 1:
                shown = True
                progress.start()

        try:
            yield advance
        finally:
            if shown:
                progress.stop()

    return bar()


def _training(console: "Console") -> Any:
    """A bar on stderr with the terms of the last step and the time left; without a terminal, a line now and then."""
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Any:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, TextColumn("{task.fields[terms]}"), console=console, transient=True)
        task = progress.add_task("training", total=None, terms="", start=False)

        def on_news(line: str) -> None:
            console.print(f"[dim]{line}[/dim]", soft_wrap=True)

        def on_step(step: Any) -> None:
            terms = f"loss {step.loss:.2f}"
            if step.phase != "warm-up":
                terms += f" area {step.area:.2f} kept {step.kept:.2f} dropped {step.dropped:.2f} fakes {step.fake_area:.2f}"
            if not console.is_terminal and step.number % 50 == 0:
                console.print(f"step {step.number} of {step.of}: {terms}", soft_wrap=True)
            progress.start_task(task)
            progress.update(task, completed=step.number, total=step.of, terms=terms, description=step.phase)

        with progress:
            yield on_step, on_news

    return bar()


def _facts(answer: "Explanation", images: list[str] | None, out: Path, seconds: float) -> dict[str, Any]:
    sources = images or ["embedded photo"]
    boxes = answer.boxes(0.5).tolist()
    rows = []
    for i, source in enumerate(sources):
        row = {"image": source, "label": int(answer.labels[i]), "name": answer.names[i]}
        row["probability"] = float(answer.probability[i])
        if answer.kept is not None and answer.dropped is not None:
            row |= {"kept": float(answer.kept[i]), "dropped": float(answer.dropped[i])}
        row |= {"area": float(answer.area[i]), "box": boxes[i], "overlay": str(out / f"overlay-{i:04}.png")}
        rows.append(row)
    return {"images": rows, "seconds": round(seconds, 3), "out": str(out), "provenance": answer.provenance}


def _table(answer: "Explanation", images: list[str] | None, out: Path, seconds: float) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("image", "class", "probability", "kept", "dropped", "area"):
        table.add_column(name, justify="left" if name in ("image", "class") else "right", overflow="fold")
    rows = _facts(answer, images, out, seconds)["images"]
    for row in rows:
        numbers = [f"{row[key]:.1%}" if key in row else "-" for key in ("probability", "kept", "dropped", "area")]
        table.add_row(Path(row["image"]).name, f"{row['name'].split(',')[0]} ({row['label']})", *numbers)
    console = _console()
    console.print(table)
    console.print("[dim]kept: probability with only the mask shown; dropped: with the mask replaced; area: the mask's share[/dim]")
    overlays = rows[0]["overlay"] if len(rows) == 1 else f"{rows[0]['overlay']} ... {Path(rows[-1]['overlay']).name}"
    console.print(f"{overlays} written in {seconds:.1f} s", soft_wrap=True)


def _first_sentence(factory: object) -> str:
    text = (getattr(factory, "__doc__", None) or "").strip().split("\n\n")[0].replace("\n", " ")
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=False, highlight=False)


def _complain(message: str) -> None:
    typer.echo(" ".join(message.split()), err=True)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _complain(f"Warning: {message}")
