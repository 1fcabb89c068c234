"""Trajectories from flow: which tokens of a window's frames show one and the same point of the scene.

Neighbouring frames are linked token by token, one to one; what has no partner starts or ends a trajectory. Leftover
tokens are paired arbitrarily, so that the map from frame to frame is a permutation and all trajectories have one token
in every frame; `linked` says which of these belong together (FRESCO, arXiv:2403.12962, temporal-guided attention).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinopaint.flow.ring import FlowRing
from kinopaint.flow.warp import pixel_columns, pixel_rows


@dataclass(frozen=True)
class Trajectories:
    """Token `order[i, p]` of frame i lies on path p; `order[0]` counts up. Path p shows one point in frames i and j
    where `linked[p, i, j]`; always for i = j.
    """

    order: Int[Tensor, "frame path"]
    linked: Bool[Tensor, "path frame frame"]


def trajectories(ring: FlowRing, height: int, width: int) -> Trajectories:
    """The trajectories of a window on a map of that size. Ties are broken by the tokens' numbers, never by chance."""
    frames, tokens = len(ring.frames), height * width
    flow = ring.at(height, width, range(frames - 1)).backward
    hidden = ring.hidden_tokens(height, width)
    colours = F.interpolate(ring.frames, (height, width), mode="bilinear", align_corners=False, antialias=True)
    colours = colours.flatten(2).transpose(1, 2)  # frame token 3

    x = (pixel_columns(flow) + flow[:, 0]).round()
    y = (pixel_rows(flow) + flow[:, 1]).round()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    claims = (y * width + x).flatten(1).long()  # pair token: the earlier token that each later one claims
    valid = inside.flatten(1) & ~hidden

    here = torch.arange(tokens, device=flow.device)
    order, broken = [here], [torch.zeros_like(here, dtype=torch.bool)]
    for pair in range(frames - 1):
        following, is_linked = _one_to_one(claims[pair], valid[pair], colours[pair], colours[pair + 1])
        broken.append(~is_linked[order[-1]])
        order.append(following[order[-1]])
    segment = torch.stack(broken, 1).cumsum(1)  # path frame: counts the breaks so far
    return Trajectories(torch.stack(order), segment[:, :, None] == segment[:, None, :])


def _one_to_one(
    claims: Int[Tensor, "token"],
    valid: Bool[Tensor, "token"],
    earlier: Float[Tensor, "token 3"],
    later: Float[Tensor, "token 3"],
) -> tuple[Int[Tensor, "token"], Bool[Tensor, "token"]]:
    """For each earlier token the later one that follows it, and whether the flow says so.

    Of several claims on one token the most alike in colour wins, then the smallest number; the others, and those whose
    claim is not valid, are paired in ascending order with what nobody claims.
    """
    claimants = valid.nonzero()[:, 0]
    unlikeness = (later[claimants] - earlier[claims[claimants]]).square().sum(-1)
    claimants = claimants[unlikeness.argsort(stable=True)]
    claimants = claimants[claims[claimants].argsort(stable=True)]  # by the token claimed, then colour, then number
    claimed = claims[claimants]
    wins = torch.ones_like(claimed, dtype=torch.bool)
    wins[1:] = claimed[1:] != claimed[:-1]

    following = torch.empty_like(claims)
    linked, taken = torch.zeros_like(valid), torch.zeros_like(valid)
    following[claimed[wins]] = claimants[wins]
    linked[claimed[wins]] = True
    taken[claimants[wins]] = True
    following[~linked] = (~taken).nonzero()[:, 0]
    return following, linked
