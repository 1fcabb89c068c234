"""How far the self-similarity of a feature map is from a given one, without ever holding the whole table.

The table of a map with L cells holds the cosine of every pair of cells: with unit rows F it is F Fᵀ, L x L. It is no
Gram matrix of channels, which would forget where things are. FRESCO's (arXiv:2403.12962) spatial consistency loss.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_TILE = 2**21  # numbers of the table that are held at once: 8 MB in fp32

UnitRows = Float[Tensor, "cell channel"]


def unit_rows(feature: Float[Tensor, "channel height width"], most: int = 0) -> UnitRows:
    """The cells of a map, each scaled to length 1, in fp32. A map of more than `most` cells (0: no limit) is first
    averaged over 2 x 2 cells, as often as needed, which makes the table 16 times smaller.
    """
    maps = feature.float()
    while most and maps.shape[-2] * maps.shape[-1] > most:
        maps = F.adaptive_avg_pool2d(maps, (-(-maps.shape[-2] // 2), -(-maps.shape[-1] // 2)))
    return F.normalize(maps.flatten(1).t(), dim=1)


def self_similarity_distance(
    rows: UnitRows, target: UnitRows, *, norm: str = "l1", precision: torch.dtype = torch.float32
) -> Float[Tensor, ""]:
    """Σ |rows rowsᵀ - target targetᵀ| ("l1"), or the sum of its squares ("l2"), over all pairs of cells.

    Differentiable in `rows`. The products are taken tile by tile in `precision`, and once for each pair: both tables
    are symmetric. Their gradient is made on the way, so that nothing has to be kept for a backward pass.
    """
    distance: Tensor = _Distance.apply(rows, target, norm, precision)  # type: ignore[no-untyped-call]
    return distance


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, target: Tensor, norm: str, precision: torch.dtype) -> Tensor:
        cells = len(rows)
        ours = rows.to(precision)
        both = torch.cat([ours, target.to(precision)], 1)
        opposite = torch.cat([ours, -target.to(precision)], 1)  # so that one product gives the difference of the tables
        gradient, distance = torch.zeros_like(rows), rows.new_zeros(())
        height = max(1, _TILE // cells)
        for begin in range(0, cells, height):
            end = min(begin + height, cells)
            tile = both[begin:end] @ opposite[begin:].t()
            slope = tile.sign() if norm == "l1" else 2 * tile
            amount = (tile.abs() if norm == "l1" else tile.square()).float()
            distance += 2 * amount.sum() - amount[:, : end - begin].sum()  # beside the diagonal every pair counts twice
            gradient[begin:end] += slope @ ours[begin:]
            gradient[end:] += slope[:, end - begin :].t() @ ours[begin:end]
        ctx.save_for_backward(gradient)
        return distance

    @staticmethod
    def backward(ctx: Any, *outgoing: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return 2 * outgoing[0] * gradient, None, None, None
