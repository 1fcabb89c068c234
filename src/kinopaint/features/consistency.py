"""Decoder features made consistent in time and space before the network goes on with them.

FRESCO (Yang, Zhou, Liu, Loy; CVPR 2024; arXiv:2403.12962), feature optimisation. A few steps of Adam move the input of
a decoder block so that neighbouring frames agree along the source's flow, and so that each frame is as similar
to itself, place by place, as the source frame is.
"""

from collections.abc import Sequence
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
class TemporalTerm:
    """λ_temp · L_temp: along the flow, neighbouring frames are alike where they see the same.

    `cyclic`: both directions of all pairs, the closing one included, as FRESCO's code has it; else only earlier frames
    seen from later ones, as the paper prints it.
    """

    weight: float = 2.0
    cyclic: bool = True

    def gradient(self, moving: Cells, apart: Differences, *, mean: bool) -> Cells:
        """Of weight · |D x|; the mean of it, or the sum."""
        if not (self.weight and apart.pairs):
            return torch.zeros_like(moving)
        slope = apart.transposed @ (apart.matrix @ moving).sign_()
        compared = moving.numel() * apart.pairs / apart.frames
        return slope.mul_(self.weight / compared if mean else self.weight)


@dataclass(frozen=True)
class SpatialTerm:
    """λ_spat · L_spat: each frame is as similar to itself, place by place, as the source frame is.

    `norm` of the differences: "l1" or "l2", squared. `most_cells`: larger maps are averaged before they are compared
    with themselves (see `unit_rows`); `precision` is that of these products.
    """

    weight: float = 100.0
    norm: str = "l1"
    most_cells: int = 0
    precision: torch.dtype = torch.float32

    def rows(self, feature: Float[Tensor, "channel height width"]) -> UnitRows:
        """What is compared of one frame."""
        return unit_rows(feature, self.most_cells)

    def gradient(
        self, moving: Cells, wanted: Sequence[Sequence[UnitRows]], size: tuple[int, int], *, mean: bool
    ) -> Cells:
        """`wanted` has the source's rows of each branch and frame, `size` is the height and width of the maps.

        It is taken frame by frame, which changes neither the term nor its gradient.
        """
        gradient = torch.zeros_like(moving)
        branches, frames = len(wanted), len(wanted[0])
        ours, theirs = (
            cells.view(frames, *size, branches, -1).permute(3, 0, 4, 1, 2) for cells in (moving, gradient)
        )  # branch frame channel height width
        for branch in range(branches if self.weight else 0):
            for frame in range(frames):
                with torch.enable_grad():
                    own = ours[branch, frame].detach().requires_grad_()
                    rows, source = self.rows(own), wanted[branch][frame]
                    slope = self_similarity_slope(rows.detach(), source, norm=self.norm, precision=self.precision)
                    (found,) = torch.autograd.grad(rows, own, slope)
                share = 1 / (len(rows) ** 2 * branches * frames) if mean else 1.0
                theirs[branch, frame] = found.mul_(self.weight * share)
        return gradient


@dataclass(frozen=True)
class Consistency:
    """How features are optimised: by Adam on λ_temp · L_temp + λ_spat · L_spat, both means (`mean`) or sums."""

    iterations: int = 20
    learning_rate: float = 0.2
    temporal: TemporalTerm = TemporalTerm()
    spatial: SpatialTerm = SpatialTerm()
    mean: bool = True

    def optimised(self, feature: Feature, reference: Feature, ring: FlowRing) -> Feature:
        """`feature` after the optimisation, with the mean and deviation of each channel that it had before: without
        that it drifts. `reference` is the same map of the source frames.

        Works where gradients are off. Memory grows with the window only as the features themselves do.
        """
        branches, frames, channels, height, width = feature.shape
        moving = feature.detach().float().permute(1, 3, 4, 0, 2).reshape(-1, branches * channels).clone()
        apart = differences_along(ring, height, width, cyclic=self.temporal.cyclic)
        wanted = [[self.spatial.rows(frame) for frame in branch] for branch in reference]
        adam = torch.optim.Adam([moving], lr=self.learning_rate)
        for _ in range(self.iterations):
            moving.grad = self.temporal.gradient(moving, apart, mean=self.mean) + self.spatial.gradient(
                moving, wanted, (height, width), mean=self.mean
            )
            adam.step()
        result = moving.view(frames, height, width, branches, channels).permute(3, 0, 4, 1, 2)
        return adain(result, feature).to(feature.dtype)


def made_consistent(how: Consistency, reference: FeatureMaps, ring: FlowRing) -> FeatureHook:
    """A feature hook that optimises the blocks' inputs.

    Raises ShapeError if the reference has not this block, or has it with other branches or frames.
    """

    def optimise(call: FeatureCall) -> Feature:
        source = reference.maps.get(call.path)
        if source is None or source.shape != call.feature.shape:
            raise ShapeError(
                f"no reference of shape {tuple(call.feature.shape)}",
                where=call.path,
                fix="record the same branches and frames in a reference pass",
            )
        return how.optimised(call.feature, source, ring)

    return optimise
