"""One decoded picture with its own exact time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (height, width, 3), RGB, C-contiguous
Alpha = NDArray[np.uint8]  # (height, width), 0 transparent to 255 opaque


@dataclass(frozen=True, eq=False)
class Frame:
    """A kept frame of a clip, as it is shown: rotation applied, full-range 8-bit RGB.

    `image` is what is seen on white; `alpha` says where it is transparent, None if nowhere.
    `index` counts kept frames from 0. `pts` is in units of `time_base` seconds, as in the source.
    `duration` in seconds lasts until the next kept frame, and for the last one until the end of the
    range; None where the source does not say.
    """

    image: Image
    index: int
    pts: int
    time_base: Fraction
    duration: Fraction | None = None
    alpha: Alpha | None = None

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base
