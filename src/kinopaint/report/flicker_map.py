"""Where a result flickers: how much more it changes along the motion than its source does, as a picture."""

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kinopaint.flow import FlowPair, warp
from kinopaint.types import Frames

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
FULL = 0.12  # change, as a share of the range, that is drawn brightest


def change_along_motion(now: Frames, before: Frames, pair: FlowPair) -> Float[Tensor, "frame 1 height width"]:
    """Mean over channels of |now - before moved along the flow|, 0 where the earlier frame does not show the place.

    Frames are in [0, 1]; so is the result.
    """
    return (now - warp(before, pair.backward)).abs().mean(1, keepdim=True) * pair.visible_later


def flicker_map(result: Float[Tensor, "1 1 height width"], source: Float[Tensor, "1 1 height width"]) -> Picture:
    """Draw what `result` changes more than `source`: black is nothing, through red and orange to pale yellow (FULL)."""
    excess = (result - source).clamp(0, FULL)[0, 0].numpy() / FULL
    levels = np.rint(excess * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)
