"""The command calibrate."""

from pathlib import Path

from saliencykit.cli import workflows
from saliencykit.cli.console import progress, say
from saliencykit.cli.options import check_output_file


def calibrate(
    data: str,
    model: str = "demo",
    masker: str | None = None,
    keep: float = 0.9,
    level: float = 0.9,
    alternative: str = "blur",
    max_images: int | None = None,
    batch_size: int = 16,
    output: Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Choose region sizes that keep the decision on new images with a stated frequency.

    The file is a masker, for --masker of the other commands.

    Args:
        data: Images like those to be explained; no labels needed.
        masker: Masker. Default: the one trained for the model.
        keep: Fraction of the probability that a region must keep.
        level: How often it must do so on new images.
        alternative: What fills removed pixels.
        output: File: .safetensors for a trained masker, .json for any other method.
    """
    suffix = ".safetensors" if masker is None or masker.endswith(".safetensors") else ".json"
    output = output or Path(f"certified{suffix}")
    check_output_file(output, suffix)
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
