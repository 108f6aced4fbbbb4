"""Validation of a masking network on held-out images; no bounding boxes needed."""

from dataclasses import asdict, dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.objective import run_trial
from saliencykit.core.output import Meaning, probability
from saliencykit.core.query_batches import in_batches, relative_output
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.metrics.mosaic import quarters
from saliencykit.training.absent_labels import absent_labels, has_fakes, other_labels
from saliencykit.training.eval_mode import eval_mode

AREAS = (0.1, 0.2, 0.3, 0.5)
_SMALL = 64  # pixels: mosaics of images up to this side are evaluated at twice the side
# mask area for fake classes, as a fraction of that for real ones, from which validation fails
_MAX_FAKE = 0.15


@final
@dataclass(frozen=True)
class ValidationReport:
    """Metrics of a masking network on held-out images.

    Attributes:
        n: Number of images.
        whole: Mean probability of the label for the whole images.
        area: Mean of the masks.
        kept: Mean probability with the graded mask kept.
        dropped: Mean probability with the graded mask replaced.
        kept_at: Mean probability with the best 10, 20, 30, 50 % of the pixels kept.
        dropped_at: The same with them replaced.
        fake: Mean mask for an absent class, divided by `area`; lower is better, 1 means that the
            mask ignores the class.
        mosaic: Fraction of the mask's sum in the right quarter of mosaics of four images; chance
            is 0.25. NaN if the images have fewer than four classes.

    References:
        Mosaics: Rao et al. 2022, "Towards Better Understanding Attribution Methods" (GridPG).
    """

    n: int
    whole: float
    area: float
    kept: float
    dropped: float
    kept_at: tuple[float, ...]
    dropped_at: tuple[float, ...]
    fake: float
    mosaic: float

    @property
    def score(self) -> float:
        """One number for early stopping: mean kept minus dropped at equal areas, plus how far the
        mosaic is above chance.
        """
        curve = (sum(self.kept_at) - sum(self.dropped_at)) / len(AREAS)
        return curve + (0.0 if self.mosaic != self.mosaic else (self.mosaic - 0.25) / 0.75)

    @property
    def passed(self) -> bool:
        """Does the mask depend on the class (`fake` below 0.15, `mosaic` not below 0.4), and does
        the better half of the pixels keep more than the other half?

        Halves are compared, and not `kept` with `dropped`: a mask of a fifth of the image
        need not keep more than the other four fifths.
        """
        return (
            self.fake < _MAX_FAKE
            and not self.mosaic < 0.4
            and self.kept_at[-1] > self.dropped_at[-1]
        )

    def as_dict(self) -> dict[str, object]:
        """For logs and files."""
        return asdict(self) | {"score": self.score, "passed": self.passed}


def validate(
    network: MaskingNetwork,
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    *,
    alternative: Alternative,
    seed: int = 0,
    batch_size: int = 16,
) -> ValidationReport:
    """Validate a network on held-out images, in eval mode; its own mode is restored.

    Args:
        network: The network.
        black_box: The classifier.
        images: (N, C, H, W) held-out images.
        labels: (N,).
        alternative: What replaces pixels.
        seed: Random seed of fake classes and fills.
        batch_size: Images per batch.
    """
    generator, sums = Generator().manual_seed(seed), dict[str, list[Tensor]]()
    with eval_mode(network), torch.no_grad():
        for part, label in in_batches(batch_size, images, labels):
            features = network.encoder.encode(black_box, part)
            logits = features.logits_of(black_box, part)
            absent = absent_labels(logits, black_box.output)
            fake = other_labels(label.cpu(), black_box.num_classes, generator, absent)
            both, _ = network(features, torch.stack([label, fake.to(label.device)], 1))
            mask = resize_maps(both[:, :1], features.size).clamp(0, 1)
            output = relative_output(black_box, part, alternative, generator)
            row = {
                "whole": probability(logits, label, output),
                "area": both[:, 0].mean((1, 2)),
                "fake": both[:, 1].mean((1, 2)),
            }
            row |= _edits(black_box, part, label, mask, output, alternative, generator)
            for name, values in row.items():
                sums.setdefault(name, []).append(values.float())
        mosaic = _mosaics(network, black_box, images, labels)
    mean = {name: float(torch.cat(values).mean()) for name, values in sums.items()}
    return ValidationReport(
        n=len(images),
        whole=mean["whole"],
        area=mean["area"],
        kept=mean["kept"],
        dropped=mean["dropped"],
        kept_at=tuple(mean[f"kept_{area}"] for area in AREAS),
        dropped_at=tuple(mean[f"dropped_{area}"] for area in AREAS),
        fake=mean["fake"] / max(mean["area"], 1e-9) if has_fakes(black_box) else 0.0,
        mosaic=mosaic,
    )


def curve_score(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    masks: Mask,
    *,
    alternative: Alternative,
    seed: int = 0,
    batch_size: int = 16,
) -> float:
    """Mean kept minus dropped probability at equal areas: the part of `ValidationReport.score` that
    any masks have.

    Args:
        black_box: The classifier.
        images: (N, C, H, W).
        labels: (N,).
        masks: (N, 1, H, W).
        alternative: What replaces pixels.
        seed: Random seed of fills.
        batch_size: Images per batch.
    """
    generator, rows = Generator().manual_seed(seed), list[Tensor]()
    with torch.no_grad():
        for part, label, mask in in_batches(batch_size, images, labels, masks):
            output = relative_output(black_box, part, alternative, generator)
            row = _edits(black_box, part, label, mask, output, alternative, generator)
            rows += [row[f"kept_{area}"] - row[f"dropped_{area}"] for area in AREAS]
    return float(torch.cat(rows).mean())


def _edits(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    mask: Mask,
    output: Meaning,
    alternative: Alternative,
    generator: Generator,
) -> dict[str, Tensor]:
    """Kept and dropped probability of the mask as it is and of its best pixels at each area."""
    row = dict[str, Tensor]()
    for name, one in ({"": mask} | {f"_{area}": top(mask, area) for area in AREAS}).items():
        given = (black_box, images, labels, one)
        trial = run_trial(*given, alternative=alternative, generator=generator, output=output)
        row |= {f"kept{name}": trial.kept, f"dropped{name}": trial.dropped}
    return row


def top(mask: Mask, area: float) -> Mask:
    """1 on the best pixels of each mask, ties to the earlier ones; else 0.

    Args:
        mask: (B, 1, H, W).
        area: Fraction of the pixels, in (0, 1]; at least one pixel.
    """
    flat = mask.flatten(1)
    count = max(1, round(area * flat.shape[1]))
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(flat).scatter_(1, order, 1.0).view_as(mask)


def quarter_shares(masks: Tensor) -> Tensor:
    """The fraction of each mask's sum in its own image's quarter of a mosaic, (4,).

    Args:
        masks: (4, h, w), for the four images in reading order.

    Example:
        >>> quarter_shares(torch.ones(4, 2, 2)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    places = quarters(masks.shape[1], masks.shape[2])
    mass = torch.stack([masks[:, rows, columns].sum((1, 2)) for rows, columns in places], 1)
    return mass.diagonal() / mass.sum(1).clamp_min(1e-9)


def _mosaics(network: MaskingNetwork, black_box: BlackBox, images: Images, labels: Labels) -> float:
    """Mean fraction of the mask's sum in the right quarter, over mosaics of four held-out images of
    four classes.
    """
    shares = []
    for four in _quartets(labels):
        masks, _ = network(_mosaic_features(network, black_box, images[four]), labels[four][None])
        shares.append(quarter_shares(masks[0]))
    return float(torch.cat(shares).mean()) if shares else float("nan")


def _quartets(labels: Labels) -> list[list[int]]:
    """Rows of four classes, each row in one quartet at most, the first rows first."""
    left, quartets = list(range(len(labels))), list[list[int]]()
    while True:
        four: list[int] = []
        for row in left:
            if len(four) < 4 and all(labels[row] != labels[other] for other in four):
                four.append(row)
        if len(four) < 4:
            return quartets
        left = [row for row in left if row not in four]
        quartets.append(four)


def _mosaic_features(network: MaskingNetwork, black_box: BlackBox, tiles: Images) -> Features:
    """Features of a mosaic of four images: at twice their side if they are small and the network
    accepts it, else at their own side.
    """
    upper, lower = torch.cat([*tiles[:2]], 2), torch.cat([*tiles[2:]], 2)
    mosaic, side = torch.cat([upper, lower], 1)[None], tuple(tiles.shape[2:])
    if max(side) <= _SMALL:
        try:
            return network.encoder.encode(black_box, mosaic)
        except InputError:  # most networks take one size; small images lose too much when shrunk
            pass
    small = F.interpolate(mosaic, side, mode="bilinear", align_corners=False, antialias=True)
    return network.encoder.encode(black_box, small)
