"""What stands still is taken over from frame to frame: background smoothing, for clips of a static camera.

As in FRESCO's code; there a saliency network tells what the background is, here it is what does not move.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.flow.ring import FlowRing
from kinopaint.flow.warp import warp
from kinopaint.types import Mask

MOVES = 1.0  # pixels from frame to frame
REACH = 7  # pixels: how wide what moves is made


def still_background(ring: FlowRing) -> Mask:
    """1 where nothing moves, else 0: neither since the frame before nor to the one after it, nor near such a place."""
    moves = torch.zeros_like(ring.frames[:, :1])
    flow = ring.pair
    for pair in range(len(ring.frames) - 1):
        moves[pair] = moves[pair].maximum(_fast(flow.forward[pair]))
        moves[pair + 1] = moves[pair + 1].maximum(_fast(flow.backward[pair]))
    return 1 - F.max_pool2d(moves, REACH, stride=1, padding=REACH // 2)


def _fast(flow: Float[Tensor, "2 height width"]) -> Float[Tensor, "1 height width"]:
    moving: Tensor = flow.square().sum(0, keepdim=True) > MOVES**2
    return moving.to(flow.dtype)


def with_still_background(
    maps: Float[Tensor, "*branch frame channel h w"], ring: FlowRing, background: Mask | None = None, *, margin: int = 1
) -> Float[Tensor, "*branch frame channel h w"]:
    """`maps` (features, pictures) of a window where every frame in turn takes its background from the one before it, as
    far as that can be seen; at the end the last frame takes it from the first.

    `background` says where that is; None: where nothing moves. What is hidden is made wider by a window of `margin`
    cells (odd; 1: not at all).
    """
    height, width = maps.shape[-2:]
    flow, last = ring.at(height, width), len(ring) - 1
    known = still_background(ring) if background is None else background
    still = F.interpolate(known, (height, width), mode="area")
    hidden_later, hidden_earlier = (
        F.max_pool2d(F.adaptive_max_pool2d(hidden, (height, width)), margin, stride=1, padding=margin // 2)
        for hidden in (ring.hidden_later, ring.hidden_earlier)
    )
    result = list(maps.unbind(-4))

    def take(here: int, there: int, way: Tensor, hidden: Tensor) -> None:
        share = ((1 - hidden) * still[here] * warp(still[there, None], way[None])[0]).to(maps.dtype)
        flat = result[there].reshape(-1, *maps.shape[-3:]).to(way.dtype)
        brought = warp(flat, way.expand(len(flat), -1, -1, -1)).to(maps.dtype).view_as(result[here])
        result[here] = torch.lerp(result[here], brought, share.expand_as(brought))

    for pair in range(last):
        take(pair + 1, pair, flow.backward[pair], hidden_later[pair])
    if last >= 0:
        take(last, 0, flow.forward[last], hidden_earlier[last])
    return torch.stack(result, -4)
