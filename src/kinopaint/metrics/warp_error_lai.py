"""Warping error of Lai et al. (Learning Blind Video Temporal Consistency, ECCV 2018, arXiv:1808.00449): squared.

Adjacent frames only; the later one is warped onto the earlier one's grid. Lower is better, 0 to 1.
"""

from kinopaint.types import Frames, Mask


def warp_error_lai(earlier: Frames, later_warped: Frames, visible: Mask) -> float | None:
    """Mean squared difference over visible pixels and channels, values in [0, 1]; None if no pixel is visible."""
    seen = visible.sum()
    return float((later_warped - earlier).square_().mul_(visible).sum() / (seen * earlier.shape[1])) if seen else None
