"""The command fit."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import progress, say
from saliencykit.cli.options import is_main_process, resumable, training_directory


def fit(
    data: str,
    model: str = "demo",
    output: Path = Path("masker.safetensors"),
    area: float | None = None,
    objective: str = "masking-network",
    alternative: str = "choice",
    encoder: str = "auto",
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int, typer.Option(min=2)] = 16,
    mixed_precision: str = "no",
    pixel_range: tuple[float, float] | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
) -> None:
    """Train a masker for a model: one forward pass then gives prediction and mask.

    This takes minutes on a CPU.

    Args:
        data: Directory of training images; no labels needed.
        output: File of the masker; checkpoints go beside it.
        area: Target mean area of the masks, e.g. 0.3. Default: the objective's.
        objective: masking-network, paper-mean, authors, paper, or terms joined by +.
        alternative: What fills removed pixels.
        encoder: auto, trunk, own, paper, or a network.
        steps: Training steps. Default: from the number of images.
        batch_size: Batch size.
        mixed_precision: no or bf16.
    """
    directory = training_directory(output)
    workflows.use_idle_cores()
    started = time.perf_counter()
    main = is_main_process()
    checkpoint = directory / "state.safetensors"
    with (
        resumable(f"the last checkpoint in {directory}", checkpoint.exists),
        progress("preparing", unit="steps", quiet=not main) as update,
    ):
        masker = workflows.fit(
            workflows.black_box_on_device(model, device, pixel_range),
            data,
            encoder=encoder,
            objective=objective,
            alternative=alternative,
            area=area,
            steps=steps,
            batch_size=batch_size,
            mixed_precision=mixed_precision,
            seed=seed,
            resume=resume,
            checkpoint_dir=directory,
            on_step=lambda step: update(step.number, step.of, step.phase, step_note(step)),
            on_message=lambda line: say(line, dim=True, stderr=True) if main else None,
        )
    if not main:
        return
    masker.save(output)
    say(validation_note(masker.metadata["validation"]))
    seconds = time.perf_counter() - started
    say(f"wrote {output} in {seconds:.0f} s; log and previews are in {directory}")
    use = f"{model} --masker {output}"
    if model.endswith(".safetensors"):  # a surrogate; the masks are for the model behind it
        use = f"ORIGINAL-MODEL --masker on-surrogate:{model},masker={output}"
    say(f"next: saliencykit explain PHOTO --model {use}")


def step_note(step: "workflows.FitStep") -> str:
    """The numbers of a training step, in one line."""
    note = f"loss {step.loss:.2f}"
    if step.phase != "warmup":
        note += f" area {step.area:.2f} kept {step.kept:.2f} dropped {step.dropped:.2f}"
        note += f" fake class {step.fake_area:.2f}"
    return note


def validation_note(held_out: dict[str, Any]) -> str:
    """The metrics on the held-out images, in one line."""
    note = (
        f"held-out images ({held_out['n']}): area {held_out['area']:.1%}, kept "
        f"{held_out['kept']:.1%}, dropped {held_out['dropped']:.1%} (whole image "
        f"{held_out['whole']:.1%}); a class that is not in the image gets {held_out['fake']:.2f} "
        "of the area"
    )
    if held_out["mosaic"] != held_out["mosaic"]:  # too few classes for mosaics
        return note
    return (
        f"{note}; {held_out['mosaic']:.2f} of the mask in the right tile of mosaics (chance 0.25)"
    )
