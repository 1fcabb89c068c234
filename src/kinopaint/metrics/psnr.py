"""PSNR between 8-bit RGB pictures in decibels. Higher is nearer to the source; 100 stands for identical."""

import math

import cv2
import numpy as np
from jaxtyping import UInt8

IDENTICAL = 100.0


def psnr(result: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]) -> float:
    """10 log10(255² / mean squared error over pixels and channels), at most 100."""
    error = cv2.norm(result, source, cv2.NORM_L2SQR) / result.size
    return min(IDENTICAL, 10 * math.log10(255**2 / error)) if error else IDENTICAL
