"""The command calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import progress, say
from saliencykit.cli.options import BatchSize, Device, Model, Seed
from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import writable


def calibrate(
    data: Annotated[str, typer.Option(help="Images like those to be explained; no labels needed.")],
    model: Model = "demo",
    masker: Annotated[
        str | None, typer.Option(help="Masker. Default: the one trained for the model.")
    ] = None,
    keep: Annotated[
        float, typer.Option(help="Fraction of the probability that a region must keep.")
    ] = 0.9,
    level: Annotated[float, typer.Option(help="How often it must do so on new images.")] = 0.9,
    alternative: Annotated[str, typer.Option(help="What fills removed pixels.")] = "blur",
    max_images: Annotated[int | None, typer.Option(help="Maximum number of images.", min=1)] = None,
    batch_size: BatchSize = 16,
    output: Annotated[
        Path | None,
        typer.Option(help="File: .safetensors for a trained masker, .json for any other method."),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Choose region sizes that keep the decision on new images with a stated frequency.

    The file is a masker, for --masker of the other commands.
    """
    suffix = ".safetensors" if masker is None or masker.endswith(".safetensors") else ".json"
    output = output or Path(f"certified{suffix}")
    if output.suffix != suffix:
        raise InputError(f"--output must end in {suffix} for this masker; got {str(output)!r}.")
    writable(output.parent)
    workflows.use_idle_cores()
    with progress("calibrating", unit="images") as update:
        certified = workflows.calibrate(
            workflows.black_box_on_device(model, device),
            masker,
            data,
            keep=keep,
            level=level,
            alternative=alternative,
            max_images=max_images,
            batch_size=batch_size,
            seed=seed,
            on_progress=update,
        )
    certified.save(output)
    certificate = certified.certificate
    say(f"{certificate.words}; mean area {certificate.mean_area:.0%}")
    say(f"wrote {output}; next: saliencykit explain PHOTO --model {model} --masker {output}")
