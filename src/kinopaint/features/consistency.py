"""Decoder features made consistent in time and space before the network goes on with them.

FRESCO (Yang, Zhou, Liu, Loy; CVPR 2024; arXiv:2403.12962), feature optimisation. A few steps of Adam move the input of
a decoder block so that neighbouring frames agree along the source's flow, and so that each frame is as similar
to itself, place by place, as the source frame is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.interventions import FeatureCall, FeatureHook
from kinopaint.errors import ShapeError
from kinopaint.features.self_similarity import UnitRows, self_similarity_slope, unit_rows
from kinopaint.flow.differences import Differences, differences_along
from kinopaint.flow.ring import FlowRing
from kinopaint.latents.statistics import adain

Feature = Float[Tensor, "branch frame channel height width"]
Cells = Float[Tensor, "frame_cell branch_channel"]  # frame by frame, so that the channels of a cell lie side by side


class FeatureMaps:
    """A feature hook that only watches: what enters each decoder block, by the block's path."""

    def __init__(self) -> None:
        self.maps: dict[str, Feature] = {}

    def __call__(self, call: FeatureCall) -> Feature:
        self.maps[call.path] = call.feature.detach()
        return call.feature


@dataclass(frozen=True)
class Consistency:
    """How features are optimised: L = temporal_weight · L_temp + spatial_weight · L_spat, by Adam.

    `cyclic`: both directions of all pairs, the closing one included, as FRESCO's code has it; else only earlier frames
    seen from later ones, as the paper prints it. `mean`: both terms are means, else sums. `most_cells`: larger maps are
    averaged before they are compared with themselves (see `unit_rows`); `precision` is that of these products.
    """

    iterations: int = 20
    learning_rate: float = 0.2
    temporal_weight: float = 2.0
    spatial_weight: float = 100.0
    spatial_norm: str = "l1"
    mean: bool = True
    cyclic: bool = True
    most_cells: int = 0
    precision: torch.dtype = torch.float32

    def optimised(self, feature: Feature, reference: Feature, ring: FlowRing) -> Feature:
        """`feature` after the optimisation, with the mean and deviation of each channel that it had before: without
        that it drifts. `reference` is the same map of the source frames.

        Works where gradients are off. Memory grows with the window only as the features themselves do: the spatial term
        is taken frame by frame, which changes neither it nor its gradient.
        """
        branches, frames, channels, height, width = feature.shape
        moving = feature.detach().float().permute(1, 3, 4, 0, 2).reshape(-1, branches * channels).clone()
        apart = differences_along(ring, height, width, cyclic=self.cyclic)
        wanted = [[unit_rows(frame, self.most_cells) for frame in branch] for branch in reference]
        adam = torch.optim.Adam([moving], lr=self.learning_rate)
        for _ in range(self.iterations):
            moving.grad = self._temporal_gradient(moving, apart) + self._spatial_gradient(
                moving, wanted, (height, width)
            )
            adam.step()
        result = moving.view(frames, height, width, branches, channels).permute(3, 0, 4, 1, 2)
        return adain(result, feature).to(feature.dtype)

    def _temporal_gradient(self, moving: Cells, apart: Differences) -> Cells:
        """Of temporal_weight · |D x|."""
        if not (self.temporal_weight and apart.pairs):
            return torch.zeros_like(moving)
        slope = apart.transposed @ (apart.matrix @ moving).sign_()
        compared = moving.numel() * apart.pairs / apart.frames
        return slope.mul_(self.temporal_weight / compared if self.mean else self.temporal_weight)

    def _spatial_gradient(self, moving: Cells, wanted: Sequence[Sequence[UnitRows]], size: tuple[int, int]) -> Cells:
        """Of spatial_weight · L_spat; `wanted` has the source's rows of each branch and frame."""
        gradient = torch.zeros_like(moving)
        branches, frames = len(wanted), len(wanted[0])
        ours, theirs = (
            cells.view(frames, *size, branches, -1).permute(3, 0, 4, 1, 2) for cells in (moving, gradient)
        )  # branch frame channel height width
        for branch in range(branches if self.spatial_weight else 0):
            for frame in range(frames):
                with torch.enable_grad():
                    own = ours[branch, frame].detach().requires_grad_()
                    rows, source = unit_rows(own, self.most_cells), wanted[branch][frame]
                    slope = self_similarity_slope(
                        rows.detach(), source, norm=self.spatial_norm, precision=self.precision
                    )
                    (found,) = torch.autograd.grad(rows, own, slope)
                share = 1 / (len(rows) ** 2 * branches * frames) if self.mean else 1.0
                theirs[branch, frame] = found.mul_(self.spatial_weight * share)
        return gradient


def made_consistent(
    how: Consistency, reference: FeatureMaps, ring: FlowRing, when: Callable[[FeatureCall], bool]
) -> FeatureHook:
    """A feature hook that optimises the blocks' inputs `when` that holds.

    Raises ShapeError if the reference has not this block, or has it with other branches or frames.
    """

    def optimise(call: FeatureCall) -> Feature:
        if not when(call):
            return call.feature
        source = reference.maps.get(call.path)
        if source is None or source.shape != call.feature.shape:
            raise ShapeError(
                f"no reference of shape {tuple(call.feature.shape)}",
                where=call.path,
                fix="record the same branches and frames in a reference pass",
            )
        return how.optimised(call.feature, source, ring)

    return optimise
