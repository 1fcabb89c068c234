"""How well contours of a source and a result agree: a measure of content that no network has learnt.

Contours are Canny's after a blur of one pixel. F1 is of precision (contours of the result that have one of the source
within two pixels) and recall (the reverse).
"""

from __future__ import annotations

import cv2
import numpy as np

REACH = 2  # pixels


def contours(picture: np.ndarray) -> np.ndarray:
    """Where contours are, "height width" of bool."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return cv2.Canny(grey, 40, 100) > 0


def edge_f1(source: np.ndarray, result: np.ndarray) -> float:
    """1: all contours of either have one of the other within `REACH` pixels; 0: none, or one of them has no contour."""
    wanted, found = contours(source), contours(result)
    if not wanted.any() or not found.any():
        return 0.0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    near_wanted, near_found = (cv2.dilate(each.astype(np.uint8), disc) > 0 for each in (wanted, found))
    precision, recall = near_wanted[found].mean(), near_found[wanted].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
