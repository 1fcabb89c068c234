"""L_temporal: the temporal loss of Style-A-Video's journal version, as a measure of gap i.

L = | O ∘ (W_{n→n-i}(Y_n) - Y_{n-i}) |: flow and visibility O from the source, the later frame seen from the
earlier one. The norm and i are not published; ours: mean absolute difference, gaps 1 and 10. Lower is better, 0 to 1.
"""

from kinopaint.types import Frames, Mask


def l_temporal(earlier: Frames, later_warped: Frames, visible: Mask) -> float | None:
    """Mean absolute difference over visible pixels and channels, values in [0, 1]; None if no pixel is visible.

    `later_warped` and `visible` lie on the earlier frame's grid.
    """
    seen = visible.sum()
    return float((later_warped - earlier).abs_().mul_(visible).sum() / (seen * earlier.shape[1])) if seen else None
