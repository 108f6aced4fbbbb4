"""SharpeningNetwork: from a coarse evidence map to a mask, by attention to its cells."""

from collections.abc import Sequence
from math import log
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit.core.types import Images, Mask, PerImage
from saliencykit.maskers.universal.pixel_encoder import PixelEncoder

_STRIDE = 8  # pixels of the image per position that attends
LEVELS = 2  # feature maps of the classifier, at about 1/8 and 1/16 of the image's side
_KNOTS = (-1.0, -0.25, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the value of a cell's evidence


@final
class SharpeningNetwork(nn.Module):
    """Decides which pixels share the evidence that a coarse map has; it cannot add any.

    The score of pixel i is `s_i = sum over heads h of a_ih sum over cells j of A_ijh v_j`. The
    value `v_j` is an increasing function of the evidence in cell j alone. The attention `A` (a
    softmax over cells) and the weights `a` (a softmax over heads) depend on the image and on the
    classifier's own feature maps, and not on the evidence: pixels like those of a cell share its
    value. So a score is between the smallest and the largest value, more evidence never gives less
    of a mask, and a flat map gives a flat mask. The logits of attention are
    `q_ih . k_jh + sum over feature maps l of b_hl cos(f_l(i), f_l(j)) - g_h |i - j|^2`, with
    distances in cells. Positions are 8 pixels apart; scores are enlarged to positions 4 pixels
    apart, each of which becomes a mean of the 3 x 3 scores 8 pixels around it, whose weights again
    depend on the image only.

    The mask is `sigmoid(scale (strength(r) s - threshold))`, where `r` compares the class's logit
    with that of the top class and `strength` is increasing, so that the map of an absent class,
    whose own maximum is noise, gives a small mask.

    Args:
        heads: Number of attention heads.
        width: Length of a head's queries and keys.

    References:
        Vaswani et al. 2017, "Attention is all you need", section 3.2.1; Teed & Deng 2020, "RAFT",
        section 3.3, for the weighted mean of neighbors.
    """

    def __init__(self, heads: int = 4, width: int = 16) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.encoder = PixelEncoder()
        channels = self.encoder.channels
        self.query = nn.Conv2d(channels, heads * width, 1)
        self.key = nn.Conv2d(channels, heads * width, 1)
        self.mix = nn.Conv2d(channels, heads, 1)
        self.refine = nn.Sequential(
            nn.Conv2d(self.encoder.fine, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 9, 1)
        )
        self.refine_coarse = nn.Conv2d(channels, 9, 1)
        sizes = torch.logspace(0.5, -1.0, heads, base=10, dtype=torch.float32, device="cpu")
        self.log_locality = nn.Parameter(sizes.log())
        self.similarity = _number(2.0, heads, LEVELS)
        self.slopes = _number(0.0, len(_KNOTS) - 1)
        self.log_scale, self.threshold = _number(log(8.0)), _number(0.4)
        self.log_strictness, self.least = _number(log(8.0)), _number(0.4)
        knots = torch.tensor(_KNOTS, dtype=torch.float32, device="cpu")
        self.register_buffer("knots", knots, persistent=False)

    knots: Tensor

    def forward(
        self,
        images: Images,
        evidence: Tensor,
        strength: PerImage,
        similarities: Sequence[Tensor | None] = (None,) * LEVELS,
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[Mask, Tensor]:
        """Masks of one or several classes of each image.

        Args:
            images: (B, 3, H, W), of any linear scale of each channel.
            evidence: (B, n, h, w) of n classes, divided by each map's maximum; may be negative.
            strength: (B, n), the logit of each class relative to that of the top class: 1 for the
                top class, 0 for a class like any other.
            similarities: For each feature map the cosine of each position with each cell, (B, h w,
                h', w'), as `cell_similarity` returns it; None where there is none.
            offset: How far the cells are below and to the right of an even grid, in pixels.

        Returns:
            The masks (B, n, ceil(H / 4), ceil(W / 4)), and the scores of the same shape.
        """
        fine, features = self.encoder(images)
        size, grid = features.shape[2:], evidence.shape[2:]
        shift = (offset[0] / _STRIDE, offset[1] / _STRIDE)
        attention = self._attention(features, grid, similarities, shift)  # (B, heads, N, cells)
        weights = self.mix(features).flatten(2).softmax(1)[:, :, :, None]  # (B, heads, N, 1)
        values = self.values(evidence).flatten(2).transpose(1, 2)  # (B, cells, n)
        scores = torch.matmul((attention * weights).sum(1), values)  # (B, N, n)
        scores = scores.transpose(1, 2).reshape(len(images), -1, *size)
        scores = self._refined(scores, fine, features)
        return self.head(scores, strength), scores

    def head(self, scores: Tensor, strength: PerImage) -> Mask:
        """Masks of scores; both increase with the evidence.

        Args:
            scores: (B, n, h, w).
            strength: (B, n).
        """
        strict = self.log_strictness.exp()
        share = torch.sigmoid(strict * (strength - self.least))
        share = share / torch.sigmoid(strict * (1 - self.least))
        logit = share[:, :, None, None] * scores - self.threshold
        return torch.sigmoid(self.log_scale.exp() * logit)

    def values(self, evidence: Tensor) -> Tensor:
        """An increasing, piecewise linear function with 0 at 0; outside [-1, 1] constant."""
        low, high = self.knots[:-1], self.knots[1:]
        steps = (evidence[..., None].clamp(-1, 1).clamp_min(low)).minimum(high)
        steps = steps - low.clamp_min(0) - high.clamp_max(0)  # the way from 0 in each interval
        return (steps * F.softplus(self.slopes + 0.54)).sum(-1)

    def _refined(self, scores: Tensor, fine: Tensor, features: Tensor) -> Tensor:
        """Scores at twice the resolution: means of 3 x 3 of the former positions around each."""
        size = fine.shape[2:]
        enlarged, coarse = (
            F.interpolate(maps, size, mode="bilinear", align_corners=False)
            for maps in (scores, self.refine_coarse(features))
        )
        weights = (self.refine(fine) + coarse).softmax(1)
        padded = F.pad(enlarged, (2, 2, 2, 2), mode="replicate")
        refined = torch.zeros_like(enlarged)
        for number in range(9):
            row, column = (2 * step for step in divmod(number, 3))
            moved = padded[:, :, row : row + size[0], column : column + size[1]]
            refined = refined + moved * weights[:, number : number + 1]
        return refined

    def _attention(
        self,
        features: Tensor,
        grid: Sequence[int],
        similarities: Sequence[Tensor | None],
        shift: tuple[float, float],
    ) -> Tensor:
        batch, size = len(features), features.shape[2:]
        queries = self.query(features).view(batch, self.heads, self.width, -1)
        moved = _moved(features, [round(step) for step in shift])
        keys = self.key(F.adaptive_avg_pool2d(moved, (grid[0], grid[1])))
        keys = keys.view(batch, self.heads, self.width, -1)
        logits = torch.matmul(queries.transpose(2, 3), keys) * self.width**-0.5
        distance = squared_distances(size, grid, shift).to(logits)
        logits = logits - self.log_locality.exp()[:, None, None] * distance
        for number, cosines in enumerate(similarities):
            if cosines is not None:
                here = F.interpolate(cosines, size, mode="bilinear", align_corners=False)
                here = here.flatten(2).transpose(1, 2)[:, None]  # (B, 1, N, cells)
                logits = logits + self.similarity[:, number, None, None] * here
        attention: Tensor = logits.softmax(3)
        return attention


def squared_distances(
    size: Sequence[int], grid: Sequence[int], shift: tuple[float, float]
) -> Tensor:
    """The squared distance of each position from the middle of each cell, in cells, (N, cells).

    Args:
        size: Height and width of the positions.
        grid: Height and width of the cells.
        shift: How far the cells are below and to the right of an even grid, in positions.
    """
    axes = []
    for positions, cells, off in zip(size, grid, shift, strict=True):
        at = torch.arange(positions, dtype=torch.float32, device="cpu") + 0.5 - off
        middle = torch.arange(cells, dtype=torch.float32, device="cpu") + 0.5
        axes.append((at[:, None] * (cells / positions) - middle) ** 2)
    whole = axes[0][:, None, :, None] + axes[1][None, :, None, :]
    return whole.reshape(size[0] * size[1], grid[0] * grid[1])


def cell_similarity(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """How alike each position of a feature map and each cell are: the cosine of their features,
    relative to the image's mean.

    Args:
        maps: (B, C, h, w).
        grid: Height and width of the cells.

    Returns:
        (B, cells, h, w) in [-1, 1].
    """
    centered = maps - maps.mean((2, 3), keepdim=True)
    cells = F.normalize(F.adaptive_avg_pool2d(centered, (grid[0], grid[1])).flatten(2), dim=1)
    positions = F.normalize(centered.flatten(2), dim=1)
    return torch.bmm(cells.transpose(1, 2), positions).view(len(maps), -1, *maps.shape[2:])


def _number(value: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, value, dtype=torch.float32, device="cpu"))


def _moved(features: Tensor, shift: Sequence[int]) -> Tensor:
    """The features that lie `shift` positions below and to the right, at the edges repeated."""
    for axis, step in enumerate(shift, start=2):
        if step:
            count = features.shape[axis]
            index = (torch.arange(count, device=features.device) + step).clamp(0, count - 1)
            features = features.index_select(axis, index)
    return features
