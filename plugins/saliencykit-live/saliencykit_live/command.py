"""The command saliencykit-live."""

import argparse
import sys
from contextlib import closing
from typing import Any

from saliencykit import RegistryError, SaliencyKitError
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.registry import as_masker, trained_masker
from saliencykit_live.camera import frames_of, open_camera
from saliencykit_live.loop import run
from saliencykit_live.window import Window


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. A wrong option or a camera that stops is one line on stderr, and exit
    code 2.

    Args:
        arguments: The command line; None: that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="saliencykit-live",
        description="A camera window that shows which pixels the decision depends on.",
    )
    parser.add_argument("--model", default="demo", help="as for `saliencykit explain`")
    parser.add_argument(
        "--masker",
        help="a name, or the file of a trained masker; default: the one trained for the model",
    )
    parser.add_argument(
        "--label",
        default="follow",
        help="a class by index or name; default: the current top class",
    )
    parser.add_argument(
        "--camera", default="0", help="number of the camera, or a file or address; default: 0"
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.75,
        help="weight of the previous, motion-compensated mask, in [0, 1)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    options = parser.parse_args(arguments)
    try:
        _show(options)
    except SaliencyKitError as error:
        print(" ".join(f"Error: {error}".split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _show(options: Any) -> None:
    use_idle_cores()
    black_box = black_box_on_device(options.model, options.device)
    masker = trained_masker(black_box) if options.masker is None else as_masker(options.masker)
    if masker is None:
        raise RegistryError(
            f"no masker is trained for {options.model}; saliencykit fit makes one, or write "
            "--masker grad-cam."
        )
    label = int(options.label) if options.label.lstrip("-").isdigit() else options.label
    with closing(frames_of(open_camera(options.camera), options.camera)) as frames:
        window = Window(confidence=masker.confidence or 0.0)
        try:
            run(black_box, masker, frames, window, label=label, smoothing=options.smoothing)
        finally:
            window.close()
