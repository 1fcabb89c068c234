"""Attention guided by correspondence in the source: within a frame, and along the flow from frame to frame.

FRESCO (Yang, Zhou, Liu, Loy; CVPR 2024; arXiv:2403.12962): spatial-guided and temporal-guided attention.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.fused_attention import fused_attention
from kinopaint.engine.interventions import AttentionCall, Intervention, Proceed
from kinopaint.errors import ShapeError
from kinopaint.flow.trajectories import Trajectories


class Projections:
    """An intervention that only watches: queries and keys of each layer that it is let see, by the layer's path."""

    def __init__(self) -> None:
        self.queries: dict[str, Float[Tensor, "branch frame head token channel"]] = {}
        self.keys: dict[str, Float[Tensor, "branch frame head token channel"]] = {}

    def __call__(self, call: AttentionCall, proceed: Proceed) -> Tensor:
        self.queries[call.site.path] = call.query.detach()
        self.keys[call.site.path] = call.key.detach()
        return proceed(call)


def guided_in_space(reference: Projections, scale: float) -> Intervention:
    """Queries averaged over the tokens of their frame that looked alike in the `reference`:
    Q' = softmax(Qr Krᵀ / (scale √d)) Q. A large `scale` averages over all of them.

    Raises ShapeError if the layer was not recorded, or with other branches or frames.
    """

    def attend(call: AttentionCall, proceed: Proceed) -> Tensor:
        query, key = reference.queries.get(call.site.path), reference.keys.get(call.site.path)
        if query is None or key is None or query.shape != call.query.shape:
            raise ShapeError(
                f"no reference of shape {tuple(call.query.shape)}",
                where=call.site.path,
                fix="record the same layers, branches and frames in a reference pass",
            )
        return proceed(replace(call, query=fused_attention(query / scale, key, call.query)))

    return attend


def guided_along_flow(paths: Callable[[int, int], Trajectories], scale: float) -> Intervention:
    """What attention gave, mixed along each trajectory: H = softmax(Q Kᵀ / (scale √d)) V' over the frames of a path.

    Q and K are those that this intervention is called with, V' is what the rest returns. `paths` gives the trajectories
    for a map's height and width. A path of one token changes nothing.
    """

    def attend(call: AttentionCall, proceed: Proceed) -> Tensor:
        given = proceed(call)
        found = paths(call.site.height, call.site.width)
        order = found.order[:, None, :, None]  # frame 1 path 1
        mixed = torch.empty_like(given)
        for branch in range(len(given)):  # attention kernels take four axes: path head frame channel
            query, key, value = (
                torch.take_along_dim(tensor[branch], order, dim=2).permute(2, 1, 0, 3)
                for tensor in (call.query / scale, call.key, given)
            )
            result = F.scaled_dot_product_attention(query, key, value, attn_mask=found.linked[:, None])
            index = order.expand_as(mixed[branch])
            mixed[branch] = torch.empty_like(given[branch]).scatter_(2, index, result.permute(2, 1, 0, 3))
        return mixed

    return attend
