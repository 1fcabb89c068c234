"""How far the frames of a window are apart along the flow, as a matrix: apart = D x, with all cells of x in a column.

A row of D takes one cell of one frame, less what the flow finds for it in a neighbouring frame (bilinear, four cells).
Warping is linear, so nothing is lost; but Dᵀ, which gradients need, is as cheap as D, and channels stay side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from kinopaint.flow.ring import FlowRing
from kinopaint.flow.warp import pixel_columns, pixel_rows


@dataclass(frozen=True)
class Differences:
    """`matrix` is sparse, (comparison, frame · cells + cell); cells that cannot be seen in the other frame have no
    comparison. `pairs` counts the compared pairs of frames, each once.
    """

    matrix: Tensor
    pairs: int
    frames: int

    @cached_property
    def transposed(self) -> Tensor:
        return self.matrix.t().coalesce()


def differences_along(ring: FlowRing, height: int, width: int, *, cyclic: bool) -> Differences:
    """All comparisons on maps of that size. `cyclic`: of every pair of the ring, both ways; else only of each frame
    with the one before it. A cell with a single hidden pixel counts as hidden.
    """
    pairs = len(ring) if cyclic else max(0, len(ring) - 1)
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    values: list[Tensor] = []
    count = 0
    for here, there, flow, hidden in _ways(ring, height, width, pairs, both=cyclic):
        seen = (~hidden.flatten().bool()).nonzero()[:, 0]
        x, y = (pixel_columns(flow) + flow[:, 0])[0].flatten()[seen], (pixel_rows(flow) + flow[:, 1])[0].flatten()[seen]
        row = torch.arange(count, count + len(seen), device=flow.device)
        rows, columns, values = [*rows, row], [*columns, here * height * width + seen], [*values, torch.ones_like(x)]
        for left, top in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, line = x.floor() + left, y.floor() + top
            weight = (1 - (x - column).abs()) * (1 - (y - line).abs())
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height) & (weight > 0)
            rows.append(row[inside])
            columns.append((there * height * width + line * width + column)[inside].long())
            values.append(-weight[inside])
        count += len(seen)
    nothing = ring.frames.new_zeros(0)
    where = torch.stack([torch.cat([nothing.long(), *rows]), torch.cat([nothing.long(), *columns])])
    shape = (count, len(ring.frames) * height * width)
    matrix = torch.sparse_coo_tensor(where, torch.cat([nothing, *values]), shape, check_invariants=True)
    return Differences(matrix.coalesce(), pairs, len(ring.frames))


def _ways(
    ring: FlowRing, height: int, width: int, pairs: int, *, both: bool
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Frame, the frame that it is compared with, the flow from the one to the other, and what is hidden."""
    flow = ring.at(height, width)
    hidden_later, hidden_earlier = (
        F.adaptive_max_pool2d(hidden, (height, width)) for hidden in (ring.hidden_later, ring.hidden_earlier)
    )
    for pair in range(pairs):
        yield ring.later[pair], pair, flow.backward[pair, None], hidden_later[pair]
        if both:
            yield pair, ring.later[pair], flow.forward[pair, None], hidden_earlier[pair]
