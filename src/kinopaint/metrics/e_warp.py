"""E_warp: the warping error of Deep Video Prior (Lei et al., NeurIPS 2020, arXiv:2010.11838), short and long range.

E_pair(O_t, O_s) = Σ M(x) |O_t(x) - W(O_s)(x)|₁ / Σ M(x), with W(O_s)(x) = O_s(x + F_{t→s}(x)), F and M of the *source*.
E_warp = 1/(T-1) Σ_{t≥2} [E_pair(O_t, O_1) + E_pair(O_t, O_{t-1})].
Lower is better, from 0 to 6 (two pairs, three channels); 0 for a constant picture, so read it beside a content score.
"""

from collections.abc import Sequence
from typing import Literal

from kinopaint.metrics.series import Series, mean_of_defined
from kinopaint.types import Frames, Mask


def e_pair(
    now: Frames, warped: Frames, visible: Mask, *, channel_reduction: Literal["sum", "mean"] = "sum"
) -> float | None:
    """Mean absolute difference over visible pixels; values in [0, 1], channels summed (or averaged: "mean").

    `warped` is the other frame seen from this one. None if no pixel is visible.
    """
    seen = visible.sum()
    if not seen:
        return None
    total = (now - warped).abs_().mul_(visible).sum() / seen
    return float(total / now.shape[1] if channel_reduction == "mean" else total)


def e_warp(to_previous: Series, to_first: Series) -> float | None:
    """The clip's value from its pairs: mean over pairs with the previous frame, plus mean over those with the first.

    Pairs without a visible pixel are left out of their mean. None if a kind has no pair left, as for a single frame.
    """
    short, long = mean_of_defined(to_previous), mean_of_defined(to_first)
    return None if short is None or long is None else short + long


def e_warp_by_frame(to_previous: Series, to_first: Series) -> list[float | None]:
    """E_pair with the previous plus E_pair with the first frame, where both are defined."""
    return [_sum(pair) for pair in zip(to_previous, to_first, strict=True)]


def _sum(pair: Sequence[float | None]) -> float | None:
    defined = [value for value in pair if value is not None]
    return sum(defined) if len(defined) == len(pair) else None
