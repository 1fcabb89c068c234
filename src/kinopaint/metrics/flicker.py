"""Flicker spectrum: the energy of frame-mean luminance above 4 Hz, motion compensated.

What moves in or out of the picture changes its mean luminance without any flicker. So the changes are measured between
each frame and its predecessor seen along the source's flow, over pixels visible in both, and added up again; what that
signal holds above 4 Hz is flicker. Unit: squared 8-bit levels; a sine of amplitude a has a²/2. Lower is better, from 0.
"""

import numpy as np
import torch

from kinopaint.metrics.series import Series
from kinopaint.types import Frames, Mask

LOWEST = 4.0  # Hz
_FEWEST = 8  # frames
_LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


def luminance_step(now: Frames, previous_warped: Frames, visible: Mask) -> float | None:
    """Mean change of luma over visible pixels, values in [0, 1]; None if no pixel is visible."""
    seen = visible.sum()
    if not seen:
        return None
    weights = torch.tensor(_LUMA, dtype=now.dtype, device=now.device).view(1, 3, 1, 1)
    return float(((now - previous_warped) * weights * visible).sum() / seen)


def flicker(steps: Series, rate: float) -> float | None:
    """Energy above 4 Hz of the luminance whose frame-to-frame changes are `steps`; the first one is not used.

    The trend is taken off and a Hann window laid over. A change that is not defined counts as none. None for fewer than
    8 frames, or if `rate` (frames per second) is too low to hold 4 Hz.
    """
    if len(steps) < _FEWEST or rate <= 2 * LOWEST:
        return None
    changes = np.array([0.0 if step is None else step for step in (None, *steps[1:])])
    level = 255 * np.cumsum(changes)
    at = np.arange(len(level))
    level -= np.polyval(np.polyfit(at, level, 1), at)
    window = np.hanning(len(level) + 2)[1:-1]
    power = np.abs(np.fft.fft(level * window)) ** 2 / (len(level) * np.square(window).sum())
    return float(power[np.abs(np.fft.fftfreq(len(level), 1 / rate)) > LOWEST].sum())
