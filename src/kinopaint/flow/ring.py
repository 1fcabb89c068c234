"""Flow from each frame of a window to the next one, the last frame's next being the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinopaint.flow.estimator import FlowEstimator
from kinopaint.flow.occlusion import occluded
from kinopaint.flow.pair import FlowPair, flow_pair
from kinopaint.flow.warp import resize_flow, warp
from kinopaint.types import Flow, Frames

UNLIKE = 0.5  # of values in [-1, 1], mean over channels: a quarter of the range, as in FRESCO

Hidden = Float[Tensor, "pair 1 height width"]  # 1 where a pixel of this frame cannot be seen in the other, else 0


@dataclass(frozen=True)
class FlowRing:
    """The flow of a window. Pair i leads between frame i, the earlier one, and frame i + 1, the later one; the last
    pair closes the ring: its later frame is frame 0. A window of one frame has no pairs.
    """

    frames: Frames
    pair: FlowPair  # all pairs along the frame axis
    hidden_later: Hidden  # on the later frame's grid
    hidden_earlier: Hidden  # on the earlier frame's grid

    def __len__(self) -> int:
        return len(self.pair.backward)

    @cached_property
    def later(self) -> list[int]:
        """The number of each pair's later frame."""
        return [(number + 1) % len(self.frames) for number in range(len(self))]

    def at(self, height: int, width: int, pairs: Sequence[int] | None = None) -> FlowPair:
        """The flow at another resolution; of some `pairs` only, if these are named."""
        chosen = slice(None) if pairs is None else list(pairs)
        return FlowPair(
            resize_flow(self.pair.backward[chosen], height, width),
            resize_flow(self.pair.forward[chosen], height, width),
        )

    def newly_visible(self, height: int, width: int) -> Int[Tensor, "index"]:
        """The tokens of a map of that size that show something for the first time: all of frame 0, and of each further
        frame what its predecessor does not show (FRESCO, efficient cross-frame attention). Tokens are counted through
        the window: frame * tokens per frame + token.
        """
        first = torch.ones(1, height * width, dtype=torch.bool, device=self.frames.device)
        return torch.cat([first, self.hidden_tokens(height, width)]).flatten().nonzero()[:, 0]

    def hidden_tokens(self, height: int, width: int) -> Bool[Tensor, "pair token"]:
        """Without the closing pair: the tokens of each later frame that the earlier one does not show."""
        inner = self.hidden_later[: len(self.frames) - 1]
        return (F.interpolate(inner, (height, width), mode="bilinear", align_corners=False) > 0.5).flatten(1)


def flow_ring(frames: Frames, estimator: FlowEstimator) -> FlowRing:
    """Estimate the flow of a window both ways. Hidden is what flow there and back does not find again (rule "norm"), or
    what looks unlike there.
    """
    if len(frames) == 1:
        nothing = frames.new_zeros(0, 2, *frames.shape[-2:])
        return FlowRing(frames, FlowPair(nothing, nothing), nothing[:, :1], nothing[:, :1])
    later = frames.roll(-1, 0)
    pair = flow_pair(estimator, later, frames)
    return FlowRing(
        frames,
        pair,
        _hidden(pair.backward, pair.forward, later, frames),
        _hidden(pair.forward, pair.backward, frames, later),
    )


def _hidden(flow: Flow, opposite: Flow, here: Frames, there: Frames) -> Hidden:
    unlike = (here - warp(there, flow)).abs().mean(1, keepdim=True) > UNLIKE
    return (occluded(flow, opposite, "norm") | unlike).to(flow.dtype)
