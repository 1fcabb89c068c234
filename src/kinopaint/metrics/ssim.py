"""SSIM: structural similarity of 8-bit RGB pictures (Wang et al., IEEE TIP 2004). Higher is nearer, at most 1.

The paper's window: Gaussian, 11x11, σ 1.5, K1 0.01, K2 0.03, population covariance; per channel, then averaged; the
5 pixels at the border, where the window is cut, do not count. scikit-image gives the same with `gaussian_weights=True,
sigma=1.5, use_sample_covariance=False, data_range=255`.
"""

from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(result: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]) -> float | None:
    """Mean structural similarity; None if a side is shorter than the window."""
    if min(result.shape[:2]) < _WINDOW:
        return None
    if result is source:
        return 1.0
    channels = zip(cv2.split(result), cv2.split(source), strict=True)
    return min(1.0, sum(_of_channel(*pair) for pair in channels) / 3)


def _of_channel(result: NDArray[Any], source: NDArray[Any]) -> float:
    # Around 128, so that squares keep their digits in single precision.
    x, y = result.astype(np.float32), source.astype(np.float32)
    x -= 128
    y -= 128
    mean_x, mean_y, products = _blurred(x), _blurred(y), _blurred(x * y)
    squares = _blurred(x * x + y * y)
    covariance = products - mean_x * mean_y
    variances = squares - mean_x * mean_x
    variances -= mean_y * mean_y
    mean_x += 128
    mean_y += 128
    similarity = (2 * covariance + _C2) / (variances + _C2)
    similarity *= 2 * mean_x * mean_y + _C1
    similarity /= mean_x * mean_x + mean_y * mean_y + _C1
    edge = _WINDOW // 2
    return float(similarity[edge:-edge, edge:-edge].mean(dtype=np.float64))


def _blurred(values: NDArray[np.float32]) -> NDArray[np.float32]:
    blurred: Any = cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)
    return np.asarray(blurred, np.float32)
