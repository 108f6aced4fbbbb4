"""The command fit-surrogate."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import emit_json, print_table, progress, say
from saliencykit.cli.options import resumable, training_directory


def fit_surrogate(
    data: str,
    model: str,
    output: Path = Path("surrogate.safetensors"),
    queries: Annotated[int, typer.Option(min=50)] = 5000,
    network: str = "own",
    alternative: str = "choice",
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    pixel_range: tuple[float, float] | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
    as_json: bool = False,
) -> None:
    """Distill a query-only model into a small network, so that a masker can be trained on it.

    Args:
        data: Directory of images like those to be explained; no labels needed.
        model: The model that can only be queried.
        output: File of the surrogate; the model's outputs go beside it.
        queries: Maximum number of images to query the model with.
        network: own (small, untrained), timm:NAME, or timm:NAME,pretrained=false.
        alternative: What fills masked pixels.
        steps: Training steps. Default: from the number of queries.
        batch_size: Batch size.
        resume: Reuse the model's outputs of an interrupted call.
    """
    directory = training_directory(output)
    workflows.use_idle_cores()
    started = time.perf_counter()
    with (
        resumable(f"the model's outputs in {directory}", lambda: any(directory.glob("*-*.*"))),
        progress("preparing", quiet=as_json) as update,
    ):
        surrogate = workflows.fit_surrogate(
            workflows.black_box_on_device(model, "auto", pixel_range),
            data,
            network=network,
            alternative=alternative,
            queries=queries,
            steps=steps,
            batch_size=batch_size,
            device=workflows.best_device() if device == "auto" else device,
            checkpoint_dir=directory,
            resume=resume,
            seed=seed,
            on_step=lambda step: update(step.number, step.of, step.phase, step_note(step)),
            on_message=lambda line: None if as_json else say(line, dim=True, stderr=True),
        )
    surrogate.save(output)
    if as_json:
        emit_json(dict(surrogate.metadata))
        return
    print_fidelity(surrogate.metadata)
    seconds = time.perf_counter() - started
    say(f"wrote {output} in {seconds:.0f} s; the model's outputs are in {directory}")
    masker = "masker.safetensors"
    say(f"next: saliencykit fit --model {output} --data {data} --output {masker}")
    use = f"--model {model} --masker on-surrogate:{output},masker={masker}"
    say(f"then: saliencykit explain PHOTO {use}")


def step_note(step: "workflows.SurrogateStep") -> str:
    """The loss of a training step; empty while the model is queried."""
    return f"KL {step.loss:.3f}" if step.loss == step.loss else ""


def print_fidelity(facts: Mapping[str, Any]) -> None:
    """Print how well the surrogate matches the model on each kind of held-out images."""
    rows = []
    for kind, figures in facts["fidelity"].items():
        row = [kind]
        for name, form in (("agreement", ".0%"), ("difference", ".3f"), ("kl", ".3f")):
            mean, low, high = (figures[name][key] for key in ("mean", "low", "high"))
            # one image has no interval
            interval = f" [dim]{low:{form}} {high:{form}}[/dim]" if low == low else ""
            row.append(f"{mean:{form}}{interval}")
        rows.append(row)
    print_table(("held out", "same class", "difference", "KL"), rows)
    say(
        f"{facts['held_out']} images, 95% confidence intervals; difference: in the probability "
        f"of the explained class; KL in nats. {facts['rule'].capitalize()}",
        dim=True,
    )
    advice = "sufficient"
    if facts["low_fidelity"]:
        advice = "low: check kept and dropped of each explanation"
    say(f"{facts['queries']} queries; the fidelity is {advice}")
