"""Record what attention looks at, and make masks of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kinopaint.engine.interventions import AttentionCall, Proceed, attention_weights


class ReceivedAttention:
    """An intervention that only watches: how much each location is attended to, in one branch of one layer.

    `map` is the sum over queries of the mean over heads of the attention probabilities; its mean is exactly 1, because
    each query gives away 1. If the predicate around it lets several layers through, the first one is kept.
    """

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.map: Float[Tensor, "frame height width"] | None = None

    def __call__(self, call: AttentionCall, proceed: Proceed) -> Tensor:
        if self.map is None:
            row = call.branches.index(self.branch)
            weights = attention_weights(call.query[row], call.key[row])  # frame head query token
            self.map = weights.mean(1).sum(-2).reshape(-1, call.site.height, call.site.width)
        return proceed(call)


def above_mean(received: Float[Tensor, "frame height width"]) -> Bool[Tensor, "frame height width"]:
    """Where a location is attended to more than the mean of its frame, which for probabilities is 1.

    Self-attention guidance (arXiv:2210.00939) writes the constant 1.0. Uniform attention gives an empty mask: the
    margin of 1e-6 keeps rounding from deciding there.
    """
    threshold = received.mean((-2, -1), keepdim=True) + 1e-6 * received.abs().amax((-2, -1), keepdim=True)
    return received > threshold


def resized(mask: Bool[Tensor, "frame h w"], size: tuple[int, int]) -> Float[Tensor, "frame 1 height width"]:
    """The mask at `size` (height, width), 0 and 1, by the nearest neighbour."""
    return F.interpolate(mask[:, None].to(torch.float32), size=size, mode="nearest")
