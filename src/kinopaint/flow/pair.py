"""Flow between two frames both ways, with the visibility masks that follow; made once, used by many."""

from dataclasses import dataclass
from functools import cached_property

from kinopaint.flow.estimator import FlowEstimator
from kinopaint.flow.occlusion import inside, visible
from kinopaint.types import Flow, Frames, Mask


@dataclass(frozen=True)
class FlowPair:
    """`backward`: from the later frame to the earlier one, on the later frame's grid. `forward`: the other way.

    Masks are made when they are first asked for (rule "squared" of `occluded`), and kept.
    """

    backward: Flow
    forward: Flow

    @cached_property
    def visible_later(self) -> Mask:
        """On the later frame's grid: 1 where its pixel is also seen in the earlier frame."""
        return visible(self.backward, self.forward)

    @cached_property
    def visible_earlier(self) -> Mask:
        """On the earlier frame's grid: 1 where its pixel is also seen in the later frame."""
        return visible(self.forward, self.backward)

    @cached_property
    def inside_later(self) -> Mask:
        """On the later frame's grid: 1 where the flow leads to a place within the earlier frame."""
        return inside(self.backward).to(self.backward.dtype)


def flow_pair(estimator: FlowEstimator, later: Frames, earlier: Frames) -> FlowPair:
    """Estimate the flow between frames in both directions."""
    return FlowPair(estimator.estimate(later, earlier), estimator.estimate(earlier, later))
