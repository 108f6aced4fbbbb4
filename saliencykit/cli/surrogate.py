"""The command surrogate: parses, calls fit_surrogate, and prints how far the surrogate and the
model disagree.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saliencykit.cli.console import console
from saliencykit.cli.device import best_device, black_box_on_device, use_idle_cores
from saliencykit.cli.options import AsJson, Seed, going_on, training_folder

if TYPE_CHECKING:
    from rich.console import Console

    from saliencykit.surrogate.distillation import SurrogateStep

_EVERY = 500  # queries, and
_SOMETIMES = 100  # steps, between lines without a terminal


def surrogate(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of pictures like those that will be explained; no labels are needed."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="The model by name, as for explain; it is only asked.")
    ],
    output: Annotated[
        Path, typer.Option(help="The surrogate's file; answers go beside it.")
    ] = Path("surrogate.safetensors"),
    queries: Annotated[
        int, typer.Option(help="Pictures that the model is asked about in all; never more.", min=50)
    ] = 5000,
    network: Annotated[
        str,
        typer.Option(help="own (small, from nothing), timm:NAME, or timm:NAME,pretrained=false."),
    ] = "own",
    alternative: Annotated[
        str, typer.Option(help="What stands where a picture is masked.")
    ] = "choice",
    steps: Annotated[
        int | None, typer.Option(help="Of learning; default: from the number of queries.", min=1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.", min=2)] = 64,
    device: Annotated[
        str, typer.Option(help="Where to learn: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option(help="Ask only what a stopped call has not asked.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Teach a small network to answer like a model that can only be queried, so that a masker can
    be trained on it.
    """
    from saliencykit.surrogate.surrogate_training import fit_surrogate

    folder = training_folder(output)
    use_idle_cores()
    started = time.perf_counter()
    with (
        going_on(f"the answers in {folder}", lambda: any(folder.glob("answers-*.safetensors"))),
        surrogate_bar(console(stderr=True, quiet=as_json)) as (on_step, on_message),
    ):
        made = fit_surrogate(
            black_box_on_device(model, "auto"),
            data,
            network=network,
            alternative=alternative,
            queries=queries,
            steps=steps,
            batch_size=batch_size,
            device=best_device() if device == "auto" else device,
            checkpoint_dir=folder,
            resume=resume,
            seed=seed,
            on_step=on_step,
            on_message=on_message,
        )
    made.save(output)
    if as_json:
        typer.echo(json.dumps(dict(made.facts), indent=1))
        return
    to = console()
    surrogate_table(made.facts, to)
    to.print(
        f"{output} written in {time.perf_counter() - started:.0f} s; the model's answers are in "
        f"{folder}",
        soft_wrap=True,
    )
    to.print(
        f"now: saliencykit fit --model {output} --data {data} --output masker.safetensors",
        soft_wrap=True,
    )
    to.print(
        f"then: saliencykit explain PHOTO --model {model} --masker "
        f"on-surrogate:{output},masker=masker.safetensors",
        soft_wrap=True,
    )


@contextmanager
def surrogate_bar(
    to: "Console",
) -> "Iterator[tuple[Callable[[SurrogateStep], None], Callable[[str], None]]]":
    """A bar for the queries, then for the steps; without a terminal, a line now and then."""
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(
        *columns,
        TextColumn("{task.fields[loss]}"),
        console=to,
        transient=True,
        disable=not to.is_terminal,
    )
    task = progress.add_task("getting ready", total=None, loss="")
    now, said = "", 0

    def on_message(line: str) -> None:
        to.print(f"[dim]{escape(line)}[/dim]", soft_wrap=True)

    def on_step(step: "SurrogateStep") -> None:
        nonlocal now, said
        if step.phase != now:
            now, said = step.phase, 0
            progress.reset(task, total=step.of, description=now)
        loss = f"KL {step.loss:.3f}" if step.loss == step.loss else ""
        progress.update(task, completed=step.number, total=step.of, loss=loss)
        if not to.is_terminal and step.number - said >= (_EVERY if now == "asking" else _SOMETIMES):
            said = step.number
            to.print(f"{now}: {step.number} of {step.of} {loss}".rstrip(), soft_wrap=True)

    with progress:
        yield on_step, on_message


def surrogate_table(facts: Mapping[str, Any], to: "Console") -> None:
    """A row for each kind of held-out picture."""
    from rich.table import Table

    grid = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("held out", "same class", "difference", "KL"):
        grid.add_column(column, justify="left" if column == "held out" else "right")
    for kind, figures in facts["disagreement"].items():
        cells = []
        for name, form in (("agreement", ".0%"), ("difference", ".3f"), ("kl", ".3f")):
            mean, low, high = (figures[name][key] for key in ("mean", "low", "high"))
            # of one picture there is none
            between = f" [dim]{low:{form}} {high:{form}}[/dim]" if low == low else ""
            cells.append(f"{mean:{form}}{between}")
        grid.add_row(kind, *cells)
    to.print(grid)
    to.print(
        f"[dim]{facts['held_out']} pictures, 95 % intervals; difference: of the probability of "
        f"the class asked about; KL in nats. {facts['rule'].capitalize()}[/dim]",
        soft_wrap=True,
    )
    verdict = (
        "[bold red]large[/bold red]: look at kept and dropped of each explanation"
        if facts["large"]
        else "not large"
    )
    to.print(f"{facts['queries']} queries; the disagreement is {verdict}", soft_wrap=True)
