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
    """Run the command line. A user's mistake, and a camera that goes away, is one line on stderr
    and exit code 2.

    Args:
        arguments: In place of those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="saliencykit-live", description="A camera window with what the decision rests on."
    )
    parser.add_argument("--model", default="demo", help="as `saliencykit explain` takes it")
    parser.add_argument(
        "--masker",
        help="a name or the file of a trained masker; default: the one made for the model",
    )
    parser.add_argument(
        "--label",
        default="follow",
        help="a class by index or name; default: the top class, followed",
    )
    parser.add_argument(
        "--camera", default="0", help="its number, or a file or address; default: 0"
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.75,
        help="share of the last mask in the next, in [0, 1)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    asked = parser.parse_args(arguments)
    try:
        _show(asked)
    except SaliencyKitError as error:
        print(" ".join(f"Error: {error}".split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _show(asked: Any) -> None:
    use_idle_cores()
    black_box = black_box_on_device(asked.model, asked.device)
    masker = trained_masker(black_box) if asked.masker is None else as_masker(asked.masker)
    if masker is None:
        raise RegistryError(
            f"no masker is trained for {asked.model}; saliencykit fit makes one, or write "
            "--masker grad-cam."
        )
    label = int(asked.label) if asked.label.lstrip("-").isdigit() else asked.label
    with closing(frames_of(open_camera(asked.camera), asked.camera)) as frames:
        window = Window(confidence=masker.confidence or 0.0)
        try:
            run(black_box, masker, frames, window, label=label, smoothing=asked.smoothing)
        finally:
            window.close()
