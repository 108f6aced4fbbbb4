"""Batches of frames at the input size of a black box."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from PIL.Image import Image

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images
from saliencykit.data.images import as_images
from saliencykit.video.frame import Frame


@dataclass(frozen=True)
class PreparedFrame:
    """A frame at the model's input size."""

    frame: Frame
    images: Images
    kind: Literal["raw", "normalized"]
    image: Image | None
    geometry: Geometry | None


def prepared_frames(
    frames: Iterable[Frame],
    black_box: BlackBox,
    inputs: Literal["auto", "raw", "normalized"],
    given_black_box: bool,
) -> Iterator[PreparedFrame]:
    """Frames at the input size of a black box.

    Args:
        frames: In the order of the video.
        black_box: It prepares them.
        inputs: What tensors hold, see `explain`.
        given_black_box: Was a BlackBox given, and not a module?

    Raises:
        InputError: A frame is not one image, or holds other pixels than the ones before it.
    """
    kind: Literal["raw", "normalized"] | None = None
    for frame in frames:
        try:
            read = as_images(frame.image, black_box, inputs=inputs, given_black_box=given_black_box)
        except InputError as error:
            raise InputError(f"frame {frame.index}: {error}") from error
        if len(read) != 1:
            raise InputError(
                f"frame {frame.index} contains {len(read)} images; a frame is one: iterate over "
                "them."
            )
        kind = read.inputs if kind is None else kind
        if read.inputs != kind:
            raise InputError(
                f"frame {frame.index} contains {read.inputs} pixels and the frames before it "
                f"{kind}; give inputs=..."
            )
        yield PreparedFrame(frame, read.images, kind, read.source_images[0], read.geometries[0])


def frame_batches(ready: Iterable[PreparedFrame], size: int) -> Iterator[list[PreparedFrame]]:
    """Batches of up to `size` frames of one shape and dtype."""
    held: list[PreparedFrame] = []
    for one in ready:
        form = (one.images.shape, one.images.dtype)
        if held and form != (held[0].images.shape, held[0].images.dtype):
            yield held
            held = []
        held.append(one)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
