"""Colour drift: how far the colours move away from the clip's beginning, in ΔE2000.

The clip is cut into windows of a second (of a quarter of the clip where that is shorter); the mean colour of each is
compared with that of the first one, and the differences are averaged. Lower is steadier, from 0. A clip whose subject
changes drifts by itself: compare with the source's own value.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinopaint.metrics.delta_e import delta_e_2000, lab_from_rgb

_SHORT_SIDE = 64  # pixels; the mean colour needs no more


def mean_lab(picture: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "3"]:
    """The mean CIE Lab colour of a picture, reduced by area averages to at most 64 pixels on the short side."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    colour: np.ndarray = lab_from_rgb(small).mean((0, 1))
    return colour


def colour_drift(colours: Sequence[Float[np.ndarray, "3"]], rate: float) -> float | None:
    """Mean ΔE2000 of the later windows' mean colours against the first's; None with fewer than two frames.

    `colours` are the frames' mean colours, `rate` is in frames per second.
    """
    if len(colours) < 2:
        return None
    length = max(1, min(round(rate), len(colours) // 4))
    starts = range(0, len(colours) - (length - 1) // 2, length)  # a last window of half the length still counts
    windows = np.stack([np.mean(colours[start : start + length], axis=0) for start in starts])
    return float(delta_e_2000(windows[1:], windows[:1].repeat(len(windows) - 1, 0)).mean())
