"""What a refinement network is trained on: the short-term temporal loss."""

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.flow.warp import warp
from kinopaint.types import Flow, Frames, Mask


def temporal_loss(output: Frames, earlier_output: Frames, flow: Flow, mask: Mask) -> Float[Tensor, ""]:
    """Mean |M ⊙ (O - W(O'))|: the refined frame against the one before it, seen along the source's flow.

    `flow` leads from this frame to the earlier one. The earlier output counts as given: the gradient goes to `output`.
    """
    return (mask * (output - warp(earlier_output.detach(), flow))).abs().mean()


def soft_visibility(source: Frames, earlier_source: Frames, flow: Flow) -> Mask:
    """exp(-50 ‖X - W(X')‖²) on colours in [0, 1], the sum of squares over channels (arXiv:1808.00449, eq. 3)."""
    difference = (source - warp(earlier_source, flow)) / 2
    return torch.exp(-50 * difference.square().sum(1, keepdim=True))
