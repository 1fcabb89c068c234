"""Pixel-MSE, as Rerender-A-Video and FRESCO report it: output frame i+1 against output frame i along the source's flow.

Papers do not say range, flow or masking. Ours: values in [0, 1], and every pixel counts whose flow stays within the
frame, occluded or not, which is what tells it from the masked errors. Lower is better, 0 to 1.
"""

from kinopaint.types import Frames, Mask


def pixel_mse(now: Frames, previous_warped: Frames, inside: Mask) -> float | None:
    """Mean squared difference over pixels inside and channels; None if there is no such pixel."""
    within = inside.sum()
    return float((now - previous_warped).square_().mul_(inside).sum() / (within * now.shape[1])) if within else None
