"""BlackBoxModule: a black box as a torch module, for tools that take modules only."""

from typing import final

from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits


@final
class BlackBoxModule(nn.Module):
    """A module whose forward pass queries a black box: an ONNX file, a web service or a pipeline
    for tools that want an `nn.Module`.

    Quantus' metrics and Captum's take it as they take any model; gradients flow where the black box
    has them. It has no weights and is always in eval mode, so that tools that randomize or train a
    model find nothing to change. `explain`, `explain_func` and `MaskerAttribution` use the black
    box inside.

    Args:
        black_box: Any BlackBox; images are what it takes.

    Raises:
        InputError: It is not a BlackBox.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence, QueryOnly
        >>> BlackBoxModule(QueryOnly(PlantedEvidence()))(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__()
        if not isinstance(black_box, BlackBox):
            raise InputError(
                f"BlackBoxModule takes a BlackBox; got {name_of(black_box)}. "
                "saliencykit.black_boxes.wrap_model makes one."
            )
        self.black_box = black_box
        self.training = False

    def forward(self, images: Images) -> Logits:
        """The logits of the black box, on the device of the images."""
        return self.black_box(images.to(self.black_box.device)).to(images.device)

    def extra_repr(self) -> str:
        """The black box."""
        return repr(self.black_box)
