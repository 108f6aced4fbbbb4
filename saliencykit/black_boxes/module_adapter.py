"""BoxModule: a black box as a torch module, for tools that take modules only."""

from typing import final

from torch import nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Logits


@final
class BlackBoxModule(nn.Module):
    """A module whose forward pass asks a black box: an ONNX file, a web service or a pipeline for
    tools that want an `nn.Module`.

    Quantus' metrics and Captum's take it as they take any model; gradients pass where the box has
    them. It has no weights and is always in eval mode, so that what randomises or trains a model
    finds nothing to change. `explain`, `explain_func` and `MaskerAttribution` ask the box inside.

    Args:
        black_box: Any BlackBox; images are what the box takes.

    Raises:
        InputError: It is none.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
        >>> import torch
        >>> BlackBoxModule(QueryOnly(PlantedEvidence()))(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, black_box: BlackBox) -> None:
        super().__init__()
        if not isinstance(black_box, BlackBox):
            raise InputError(
                f"BoxModule takes a BlackBox; got {name_of(black_box)}. "
                "saliencykit.registry.manager.as_black_box makes one."
            )
        self.black_box = black_box
        self.training = False

    def forward(self, images: Images) -> Logits:
        """The box's logits, where the images are."""
        return self.black_box(images.to(self.black_box.device)).to(images.device)

    def extra_repr(self) -> str:
        """The box."""
        return repr(self.black_box)
