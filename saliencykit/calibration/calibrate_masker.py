"""calibrate(): how large must a region be, so that it keeps the decision on new images too?"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.conformal import controlled_size, fewest_images
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput, ranked
from saliencykit.core.metric import Sample
from saliencykit.core.output import probability
from saliencykit.data.batches import make_batches
from saliencykit.data.dataset import Dataset
from saliencykit.maskers.certificate import (
    AREAS,
    Certificate,
    Likeness,
    area_inputs,
    log_odds,
    steps_of,
)
from saliencykit.maskers.certified import Certified
from saliencykit.maskers.image_statistics import SHARPNESS, image_statistics
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker
from saliencykit.runs.batch_runner import run_batch

_MODELED = 3  # every third image shows what to expect; the others bound the error
_LIKE = 0.975  # of like images, by each of two groups of statistics
_RIDGE = 1e-3
# the last one: the whole image
_MARGINS = torch.linspace(-20, 40, 3001, dtype=torch.float64, device="cpu")


def calibrate(
    model: object,
    masker: Masker | str | None,
    images: Any,
    *,
    keep: float = 0.9,
    level: float = 0.9,
    alternative: Alternative | str = "blur",
    max_images: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Certified:
    """Choose the area of each image's region, so that on new images of the same kind the kept
    region preserves the decision with at least a given frequency.

    For each image the nested regions of 16 areas are kept, the rest replaced, and the black box
    queried: which regions keep the share `keep` of p(class)? Every third image shows what area to
    expect from the masker's own mask and from p(class), by linear regression of log-odds. The
    others say how much has to be added so that few enough fail (conformal risk control). This holds
    for any masker and any distribution of images, as long as new images come from the same one.

    Args:
        model: As for `explain`; a classifier.
        masker: As for `explain`. None: the one that was trained for this model.
        images: A data set without labels needed, see `Dataset`; the top class is explained. At
            least 50 are advisable, and 1.5 * level / (1 - level) necessary.
        keep: The share of p(class) that a region has to keep, in (0, 1).
        level: How often it does, in (0, 1), over the draw of both calibration and new images.
        alternative: What replaces the pixels. The guarantee holds under this alternative.
        max_images: At most this many images, evenly spaced, so that each subfolder has its share;
            the first ones where the length is unknown.
        batch_size: Images explained at once, >= 1.
        seed: Random seed.
        on_progress: Called with the number of finished images and the total, None if unknown.

    Returns:
        The masker, with `certificate`; `explain` takes it, prints the guarantee, and says of an
        image unlike the calibration ones that there is none. `save` writes it.

    Raises:
        InputError: An argument is out of range, there are too few images that can be used, or the
            model gives scores, which have no share to keep.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, _ = black_box.examples(40, generator=torch.Generator().manual_seed(0))
        >>> certified = calibrate(black_box, "rise:samples=64", images, keep=0.8, level=0.8)
        >>> certified.certificate.images, 0 < certified.certificate.mean_area < 1
        (40, True)

    References:
        Angelopoulos et al. 2022, "Conformal risk control".
    """
    checks.numbers("calibrate", "(0, 1)", keep=keep, level=level)
    checks.seed(seed, "calibrate")
    black_box = as_black_box(model)
    if black_box.output == "score":
        raise InputError(
            "calibrate: the model gives scores, of which no share can be kept; calibrate a "
            "classifier, or declare what its output means (output='softmax' or 'sigmoid')."
        )
    chosen = trained_masker(black_box) if masker is None else as_masker(masker)
    if chosen is None:
        raise InputError(
            "calibrate(masker=None): no masker was trained for this model; name one, such as 'cam'."
        )
    chosen = chosen.bound_to(black_box)
    fill = as_alternative(alternative).for_black_box(black_box)
    checks.counts("calibrate", max_images=max_images)
    source = Dataset.open(images, black_box, use_labels=False)
    spaced = (replace(each, index=i) for i, each in enumerate(source.evenly_spaced(max_images)))
    counts = [count for count in (source.count, max_images) if count is not None]
    measure = _Measurement(black_box, chosen, fill, keep, seed)
    with rng.isolated(black_box.device):
        rows: list[_Row] = []
        for batch in make_batches(spaced, black_box, batch_size):
            if batch.sample is not None:
                rows += measure.rows(batch.sample)
            if on_progress is not None:
                on_progress(batch.indices[-1] + 1, min(counts, default=None))
    certificate = _certificate(rows, keep, level, repr(fill), fingerprint(black_box))
    return Certified(
        masker=chosen, certificate=certificate, text=masker if isinstance(masker, str) else None
    )


@final
@dataclass(frozen=True)
class _Row:
    """What was measured on one image: the masker's own area, p(class), which of `AREAS` keep
    enough, and the statistics; on the CPU.
    """

    own: Tensor
    probability: Tensor
    enough: Tensor
    statistics: Tensor


@final
@dataclass(frozen=True)
class _Measurement:
    """Finds the area that each image needs."""

    black_box: BlackBox
    masker: Masker
    fill: Alternative
    keep: float
    seed: int

    def rows(self, sample: Sample) -> list[_Row]:
        """One per image that the masker can explain."""
        images = sample.images.to(self.black_box.device)
        labels = sample.labels.to(images.device)
        found = run_batch(
            lambda rows: self._measured(images[rows], labels[rows]),
            list(range(len(images))),
            lambda row, error: None,
            device=self.black_box.device,
            who=checks.name_of(self.masker),
        )
        return [row for row in found if row is not None]

    def _measured(self, images: Tensor, labels: Tensor) -> list[_Row | None]:
        generator = Generator().manual_seed(self.seed)
        masker, logits = self.masker.predict_masker(self.black_box, images)
        answer = masker.attribute(self.black_box, images, labels, generator=generator)
        output = ranked(answer, images.shape[2:])
        whole = probability(logits, labels, self.black_box.output)
        own = output.mask.mean((1, 2, 3))
        statistics = image_statistics(images, logits)
        own, whole = (values.double().cpu() for values in (own, whole))
        values = [self._kept(images[row], labels[row], output, row) for row in range(len(images))]
        kept = torch.stack(values) >= self.keep * whole[:, None]
        every = torch.cat([kept, torch.ones_like(kept[:, :1])], 1)  # the whole image always is
        return [_Row(*row) for row in zip(own, whole, every, statistics, strict=True)]

    def _kept(self, image: Tensor, label: Tensor, output: MaskerOutput, row: int) -> Tensor:
        """p(class) of each of `AREAS` but the whole image."""
        attributions = output.attributions
        one = MaskerOutput(
            output.mask[row : row + 1],
            None if attributions is None else attributions[row : row + 1],
        )
        masks = one.nested(AREAS[:-1])[0][:, None]
        generator = Generator().manual_seed(self.seed)
        with torch.no_grad():
            kept = self.fill.edit(image.expand(len(masks), -1, -1, -1), masks, generator)
            answers = self.black_box(kept)
        values = probability(answers, label.expand(len(masks)), self.black_box.output)
        return values.double().cpu()


def _certificate(
    rows: list[_Row], keep: float, level: float, alternative: str, mark: str | None
) -> Certificate:
    if len(rows) - -(-len(rows) // _MODELED) < max(fewest_images(level), 10):
        raise InputError(
            f"calibrate has {len(rows)} images that can be used; a level of {level:g} takes at "
            f"least {-(-max(fewest_images(level), 10) * 3 // 2)}."
        )
    own, p, enough, statistics = (
        torch.stack([getattr(row, name) for row in rows])
        for name in ("own", "probability", "enough", "statistics")
    )
    modeled = torch.arange(len(rows), device="cpu") % _MODELED == 0
    # the least area that keeps enough
    needed = own.new_tensor(AREAS)[enough.int().argmax(1)]
    inputs = area_inputs(own, p)
    slope = _regression(inputs[modeled], log_odds(needed[modeled]))
    wanted = torch.sigmoid((inputs[~modeled] @ slope)[:, None] + _MARGINS)
    failures = ~enough[~modeled].gather(1, steps_of(wanted))
    groups = [statistics[:, : SHARPNESS.stop], statistics[:, SHARPNESS.stop :]]
    sharpness, look = (Likeness.of(each[modeled], each[~modeled], _LIKE) for each in groups)
    a, b, c = slope.tolist()
    certificate = Certificate(
        keep=keep,
        level=level,
        alternative=alternative,
        images=len(rows),
        mean_area=1.0,
        slope=(a, b, c),
        margin=float(_MARGINS[controlled_size(failures, level)]),
        sharpness=sharpness,
        look=look,
        fingerprint=mark,
    )
    return certificate.with_mean_area(own, p)


def _regression(inputs: Tensor, target: Tensor) -> Tensor:
    """Least squares, with a small ridge: a masker's areas may all be the same."""
    ridge = _RIDGE * len(inputs) * torch.eye(3, dtype=torch.float64, device="cpu")
    slope: Tensor = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ target)
    return slope
