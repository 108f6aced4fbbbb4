"""BatchExplainer: a batch of images in, a batch of explanations out."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

from saliencykit.core.alternative import Alternative
from saliencykit.core.masker import Masker
from saliencykit.data.batch_function import BatchFunction
from saliencykit.data.batches import in_blocks
from saliencykit.data.record import Record
from saliencykit.explanation.dataset_worker import Worker
from saliencykit.explanation.smallest_regions import KINDS
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.map_encoding import encoded

_LEFT_OUT = (  # of the run, or the batch
    "name", "index", "seconds", "image_key", "file_key",
    *(f"{kind}_{name}" for kind in KINDS for name in ("area", "probability")),
)  # fmt: skip


@final
@dataclass(frozen=True)
class BatchExplainer(BatchFunction):
    """Explains batches of images for an engine that distributes them: Ray Data, Hugging Face
    `datasets.map`, Spark, a job array.

    It can be pickled; the model is loaded when a process explains its first batch. A row depends on
    its image and the seed, and is the one that `explain_dataset` writes. An image that cannot be
    explained is a row with its failure.

    A batch is a mapping of columns, a pandas DataFrame, or an Arrow table or record batch; the
    result is one of the same type. In: `image` (paths, bytes of image files, arrays, PIL images),
    and optionally `label` and `id`, which names the image in messages. Out: all other columns of
    the batch, and

    - `label`, `label_name`: the explained class; `predicted`, `predicted_name`: the model's top
      class, where classes are exclusive;
    - `probability`, `kept`, `dropped`: of that class, for the whole image, the mask's pixels alone,
      and the image without them; `verdict`: what they show, see `core.Verdict`;
    - `area`: mean of the mask, in [0, 1];
    - `mask`: as the bytes of an 8-bit PNG at the masker's own resolution, accurate to 1/510;
      `height`, `width`: of the model's input, to which the mask is resized;
    - `failure`: why there is no mask.

    Where there is no value, Arrow has a null; other batches have -1, NaN, "" or b"".

    Args:
        model: As for `explain`; or a function without arguments that returns one, to load it in
            each process on the device of its choice.
        masker: As for `explain`.
        budget: As for `explain`.
        alternative: As for `explain`.
        label: The class to explain for all images: an index, a name, or `top` for the model's top
            class. None: the column `label`, or the top class where it gives none.
        classes: The data set's class names and their indices in the model, where these are not the
            model's own names.
        pixel_range: As for `explain`.
        verify: Query the model with the mask kept, with it replaced, and with all pixels replaced:
            three more passes.
        seed: Random seed, >= 0.
        batch_size: Images that go through the model together, >= 1; batches may be larger.

    Raises:
        InputError: An argument or a batch cannot be used, or the model cannot be pickled.
        DeviceMemoryError: The device's memory is too small for `batch_size` images.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> explainer = BatchExplainer(PlantedEvidence(), masker="center-box")
        >>> images = [torch.zeros(3, 16, 16), b"no image"]
        >>> batch = explainer({"image": images, "id": ["a", "b"], "label": [2, 2]})
        >>> batch["label"].tolist(), batch["area"].round(2).tolist(), batch["mask"][0][1:4]
        ([2, -1], [0.47, nan], b'PNG')
    """

    _: KW_ONLY
    masker: Masker | str | None = None
    budget: float | None = None
    alternative: Alternative | str | None = None
    verify: bool = True

    def columns(
        self, batch: Any, records: Sequence[Record]
    ) -> Mapping[str, tuple[str, Sequence[Any]]]:
        """The rows of the images, explained in blocks of `batch_size`."""
        blocks = in_blocks(self.images(records).load(), self.batch_size)
        explained = [each for block in blocks for each in self._worker.explain(block)]
        masks = [None if each.map is None else encoded(each.map) for each in explained]
        rows = [
            each.row.values() | {"mask": mask} for each, mask in zip(explained, masks, strict=True)
        ]
        kinds = {k: kind for k, kind in ExplainedRow.columns().items() if k not in _LEFT_OUT}
        return {name: (kind, [row[name] for row in rows]) for name, kind in kinds.items()}

    @functools.cached_property
    def _worker(self) -> Worker:
        return Worker.of(
            self.black_box,
            masker=self.masker,
            budget=self.budget,
            alternative=self.alternative,
            label=None,  # the images have it
            verify=self.verify,
            seed=self.seed,
        )
