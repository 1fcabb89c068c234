"""Which pixels of a frame can be seen in another one, judged from the flow both ways.

`flow` goes from this frame to the other one, `opposite` back; both as `FlowEstimator.estimate` gives them. A pixel that
is seen in both frames comes back to where it started.
"""

from typing import Literal

from jaxtyping import Bool
from torch import Tensor

from kinopaint.flow.warp import pixel_columns, pixel_rows, warp
from kinopaint.types import Flow, Mask

Rule = Literal["squared", "norm"]
Pixels = Bool[Tensor, "frame 1 height width"]


def occluded(flow: Flow, opposite: Flow, rule: Rule = "squared") -> Pixels:
    """Where the flow there and back does not return: b = flow(p), w = opposite(p + b).

    "squared": |w + b|² > 0.01 (|w|² + |b|²) + 0.5, the test of Lai et al. (arXiv:1808.00449) after Sundaram et al.
    (ECCV 2010). "norm": |w + b| > 0.01 (|w| + |b|) + 0.5, as FRESCO and Rerender-A-Video have it.
    """
    back = warp(opposite, flow)
    if rule == "squared":
        return _squares(back + flow) > 0.01 * (_squares(back) + _squares(flow)) + 0.5
    return _squares(back + flow).sqrt() > 0.01 * (_squares(back).sqrt() + _squares(flow).sqrt()) + 0.5


def motion_boundary(flow: Flow) -> Pixels:
    """Where the flow changes abruptly: |∇u|² + |∇v|² > 0.01 |b|² + 0.002.

    Gradients are forward differences, 0 in the last column and row. Source: Lai et al., as `occluded`.
    """
    slope = flow.new_zeros(len(flow), 1, *flow.shape[-2:])
    slope[..., :, :-1] += _squares(flow[..., :, 1:] - flow[..., :, :-1])
    slope[..., :-1, :] += _squares(flow[..., 1:, :] - flow[..., :-1, :])
    return slope > 0.01 * _squares(flow) + 0.002


def inside(flow: Flow) -> Pixels:
    """Where the flow leads to a place within the frame, so that `warp` reads pixels only."""
    height, width = flow.shape[-2:]
    x, y = pixel_columns(flow) + flow[:, 0], pixel_rows(flow) + flow[:, 1]
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).unsqueeze(1)


def visible(flow: Flow, opposite: Flow, rule: Rule = "squared") -> Mask:
    """1 where this frame's pixel can be seen in the other frame, else 0.

    Seen is what is inside the other frame and not occluded; with "squared" also not at a motion boundary.
    """
    seen = inside(flow) & ~occluded(flow, opposite, rule)
    if rule == "squared":
        seen &= ~motion_boundary(flow)
    return seen.to(flow.dtype)


def _squares(vectors: Tensor) -> Tensor:
    """Squared length of each vector, keeping the channel axis."""
    return vectors.square().sum(dim=1, keepdim=True)
