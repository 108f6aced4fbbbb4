"""Gate: does a masker do its work? Measured on held-out pictures, without any boxes."""

from dataclasses import asdict, dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.class_scores import probability
from saliencykit.core.errors import InputError
from saliencykit.core.masker import resize_maps
from saliencykit.core.objective import run_trial
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork

AREAS = (0.1, 0.2, 0.3, 0.5)
_SMALL = 64  # pixels: mosaics of pictures up to this side are shown at twice the side
# fakes' area as a share of the real ones', above which the network looks at the picture only
_ENOUGH = 0.15


@final
@dataclass(frozen=True)
class ValidationReport:
    """What held-out pictures say of a masker.

    Attributes:
        n: Pictures.
        whole: Mean probability of the label on the whole pictures.
        area: Mean of the masks.
        kept: Mean probability with the graded mask kept.
        dropped: Mean probability with the graded mask replaced.
        kept_at: Mean probability with the best 10, 20, 30, 50 % of the pixels kept.
        dropped_at: The same with them replaced.
        fake: Mean mask for a class that is not there, as a share of `area`; small is good, 1 is
            blind.
        mosaic: Share of the mask's mass in the right quarter of mosaics of four pictures; chance is
            0.25. NaN if the pictures have fewer than four classes.

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
        """Is it selective (fakes under 0.15 of the real area, mosaics clearly above chance), with
        the better half of pixels on top?

        Halves are compared, and not `kept` with `dropped`: a mask of a fifth of the picture need
        not beat the other four fifths.
        """
        return (
            self.fake < _ENOUGH and not self.mosaic < 0.4 and self.kept_at[-1] > self.dropped_at[-1]
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
    """Measure a network on held-out pictures; it is put in eval mode and back.

    Args:
        network: The network.
        black_box: The classifier.
        images: (N, C, H, W) held-out pictures.
        labels: (N,).
        alternative: What replaces pixels.
        seed: Of fakes and fills.
        batch_size: Pictures at once.
    """
    was, generator = network.training, Generator().manual_seed(seed)
    network.eval()
    fakes = other_labels(labels.cpu(), black_box.num_classes, generator).to(labels.device)
    sums: dict[str, list[Tensor]] = {}
    try:
        with torch.no_grad():
            for part, asked, fake in zip(
                *(torch.split(rows, batch_size) for rows in (images, labels, fakes)), strict=True
            ):
                features = network.encoder.encode(black_box, part)
                both, _ = network(features, torch.stack([asked, fake], 1))
                mask = resize_maps(both[:, :1], features.size).clamp(0, 1)
                logits = black_box(part) if features.logits is None else features.logits
                row = {
                    "whole": probability(logits, asked),
                    "area": both[:, 0].mean((1, 2)),
                    "fake": both[:, 1].mean((1, 2)),
                }
                trials = {"": mask} | {f"_{area}": top(mask, area) for area in AREAS}
                for name, one in trials.items():
                    trial = run_trial(
                        black_box, part, asked, one, alternative=alternative, generator=generator
                    )
                    row[f"kept{name}"] = probability(trial.preserved, asked)
                    row[f"dropped{name}"] = probability(trial.destroyed, asked)
                for name, values in row.items():
                    sums.setdefault(name, []).append(values.float())
            mosaic = _mosaics(network, black_box, images, labels)
    finally:
        network.train(was)
    mean = {name: float(torch.cat(values).mean()) for name, values in sums.items()}
    return ValidationReport(
        n=len(images),
        whole=mean["whole"],
        area=mean["area"],
        kept=mean["kept"],
        dropped=mean["dropped"],
        kept_at=tuple(mean[f"kept_{area}"] for area in AREAS),
        dropped_at=tuple(mean[f"dropped_{area}"] for area in AREAS),
        fake=mean["fake"] / max(mean["area"], 1e-9),
        mosaic=mosaic,
    )


def top(mask: Mask, area: float) -> Mask:
    """1 on the best pixels of each mask, ties to the earlier ones; else 0.

    Args:
        mask: (B, 1, H, W).
        area: Their share, in (0, 1]; at least one pixel.
    """
    flat = mask.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)[
        :, : max(1, round(area * flat.shape[1]))
    ]
    return torch.zeros_like(flat).scatter_(1, order, 1.0).view_as(mask)


def other_labels(labels: Labels, num_classes: int, generator: Generator) -> Labels:
    """For each label another class, all equally likely; with one class, that one.

    Args:
        labels: (B,) int64 on the CPU.
        num_classes: K.
        generator: They are drawn from it.
    """
    if num_classes < 2:
        return labels.clone()
    return (labels + torch.randint(1, num_classes, labels.shape, generator=generator)) % num_classes


def quarter_shares(masks: Tensor) -> Tensor:
    """The share of each mask's mass that lies in its own picture's quarter of a mosaic, (4,).

    Args:
        masks: (4, h, w), for the four pictures in reading order.

    Example:
        >>> quarter_shares(torch.ones(4, 2, 2)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    down, across = masks.shape[1] // 2, masks.shape[2] // 2
    quarters = [
        masks[:, :down, :across],
        masks[:, :down, across:],
        masks[:, down:, :across],
        masks[:, down:, across:],
    ]
    mass = torch.stack([quarter.sum((1, 2)) for quarter in quarters], 1)
    return mass.diagonal() / mass.sum(1).clamp_min(1e-9)


def _mosaics(network: MaskingNetwork, black_box: BlackBox, images: Images, labels: Labels) -> float:
    """Mean share of the mass in the right quarter, over mosaics of four held-out pictures of four
    classes.
    """
    shares = []
    for four in _quartets(labels):
        masks, _ = network(_seen_together(network, black_box, images[four]), labels[four][None])
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


def _seen_together(network: MaskingNetwork, black_box: BlackBox, tiles: Images) -> Features:
    """Features of a mosaic of four pictures: at twice their side if they are small and the network
    takes it, else at theirs.
    """
    large = torch.cat([torch.cat([tiles[0], tiles[1]], 2), torch.cat([tiles[2], tiles[3]], 2)], 1)[
        None
    ]
    side = (tiles.shape[2], tiles.shape[3])
    if max(side) <= _SMALL:
        try:
            return network.encoder.encode(black_box, large)
        except InputError:  # most networks take one size, and small pictures bear no shrinking
            pass
    return network.encoder.encode(
        black_box,
        F.interpolate(large, size=side, mode="bilinear", align_corners=False, antialias=True),
    )
