"""What every flow estimator can do."""

from typing import Protocol, runtime_checkable

from kinopaint.types import Flow, Frames


@runtime_checkable
class FlowEstimator(Protocol):
    """Dense motion between two frames of a video; may be asked from several threads at once."""

    @property
    def identity(self) -> str:
        """All that the flow depends on besides the frames: algorithm, settings, versions. Part of cache keys."""
        ...

    def estimate(self, target: Frames, source: Frames) -> Flow:
        """The flow from each `target` frame to the `source` frame of the same place: target(p) = source(p + flow(p)).

        In pixels, x before y, on the grid of `target`, so `warp(source, flow)` looks like `target` where both see the
        same. In the literature this is the *backward* flow if `target` is the later frame.
        """
        ...
