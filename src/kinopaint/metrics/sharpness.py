"""Sharpness: the mean length of the luma gradient; a result is compared with its source.

Tells a temporally smooth result from a smeared one. The ratio is 1 where the result is as sharp as the source, less
where it is blurred; noise and hard outlines raise it above 1.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from kinopaint.metrics.series import Series, mean_of_defined


def sharpness(picture: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """Mean of √(Δx² + Δy²) of the BT.601 luma in [0, 1], forward differences; None if a side is a single pixel."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    if min(luma.shape) < 2:
        return None
    across, down = luma[:-1, 1:] - luma[:-1, :-1], luma[1:, :-1] - luma[:-1, :-1]
    return float(cv2.mean(cv2.magnitude(across, down))[0])


def sharpness_ratio(result: Series, source: Series) -> float | None:
    """Mean sharpness of the result over that of the source; None if the source has no gradient at all."""
    ours, theirs = mean_of_defined(result), mean_of_defined(source)
    return ours / theirs if ours is not None and theirs else None
