"""What brings the self-similarity of a feature map near a given one, without ever holding the whole table.

The table of a map with L cells holds the cosine of every pair of cells: with unit rows F it is F Fᵀ, L x L. It is no
Gram matrix of channels, which would forget where things are. FRESCO's (arXiv:2403.12962) spatial consistency loss.
"""

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


def self_similarity_slope(
    rows: UnitRows, target: UnitRows, *, norm: str = "l1", precision: torch.dtype = torch.float32
) -> UnitRows:
    """The gradient, with respect to `rows`, of Σ |rows rowsᵀ - target targetᵀ| ("l1"), or of the sum of its squares
    ("l2"), over all pairs of cells.

    The products are taken tile by tile in `precision`, and once for each pair: both tables are symmetric.
    """
    ours, cells = rows.to(precision), len(rows)
    both = torch.cat([ours, target.to(precision)], 1)
    opposite = torch.cat([ours, -target.to(precision)], 1)  # so that one product gives the difference of the tables
    slope = torch.zeros_like(rows)
    height = max(1, min(_TILE // cells, max(64, cells // 16)))  # the lower the strips, the less is made twice
    for begin in range(0, cells, height):
        end = min(begin + height, cells)
        tile = both[begin:end] @ opposite[begin:].t()
        tile = tile.sign_() if norm == "l1" else tile.mul_(2)
        slope[begin:end] += tile @ ours[begin:]
        slope[end:] += tile[:, end - begin :].t() @ ours[begin:end]  # the mirrored half
    return slope.mul_(2)  # a change of a row changes its line of the table and its column
