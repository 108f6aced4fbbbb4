"""The command app."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import say


def app(
    model: list[str] | None = None,
    masker: list[str] | None = None,
    folder: Path | None = None,
    device: str = "auto",
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 0,
) -> None:
    """Explore masks in a browser: drop an image, move a slider, see what the model answers.

    Args:
        model: Model to offer, e.g. timm:resnet18; repeatable. Default: demo.
        masker: Masker to offer first, e.g. a trained .safetensors file; repeatable.
        folder: Directory of images, shown as a gallery sorted by verdict.
        host: Address to listen at; the default is this machine only.
        port: Port; 0: the first free one from 7860 on.
    """
    models = {name: workflows.black_box_on_device(name, device) for name in model or ["demo"]}
    page = workflows.launch_app(
        models, maskers=masker or (), folder=folder, host=host, port=port or None, block=False
    )
    say(f"open {page.local_url} in a browser; Ctrl-C ends")
    page.block_thread()
