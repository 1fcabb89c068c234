"""Videos that nobody wants and that some metric likes: what games a metric shows in their rows of the table.

All are made from the source, at the size at which the flow is followed:
`constant` a flat picture in the first frame's mean colour; `blurred` a Gaussian blur of a fiftieth of the short side;
`noisy` independent noise in every frame, σ 12 of 255; `smeared` each frame nine tenths its predecessor's, seen along
the motion: the trivial optimum of every temporal loss.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from kinopaint.flow import FlowPair, warp
from kinopaint.types import Frames

Picture = NDArray[np.uint8]
REFERENCES = ("constant", "blurred", "noisy", "smeared")
_NOISE = 12.0  # standard deviation in 8-bit levels
_KEPT = 0.9  # share of the predecessor in a smeared frame


class References:
    """Makes the reference rows frame by frame; call `of` for every frame in order."""

    def __init__(self) -> None:
        self._count = 0
        self._flat: Picture | None = None
        self._smeared: Frames | None = None

    def of(self, source: Picture, previous: FlowPair | None) -> dict[str, Picture]:
        """The reference pictures for the next source frame; `previous` is its flow to and from the one before."""
        if self._flat is None:
            self._flat = np.broadcast_to(np.rint(source.mean((0, 1))).astype(np.uint8), source.shape).copy()
        noise = np.random.default_rng(self._count).normal(0, _NOISE, source.shape)
        self._count += 1
        return {
            "constant": self._flat,
            "blurred": np.asarray(cv2.GaussianBlur(source, (0, 0), max(0.5, min(source.shape[:2]) / 50)), np.uint8),
            "noisy": _rounded(source + noise),
            "smeared": self._smear(source, previous),
        }

    def _smear(self, source: Picture, previous: FlowPair | None) -> Picture:
        now = torch.from_numpy(source).permute(2, 0, 1).float().unsqueeze(0)
        if self._smeared is not None and previous is not None:
            kept = _KEPT * previous.visible_later
            now = now + kept * (warp(self._smeared, previous.backward) - now)
        self._smeared = now
        return _rounded(now[0].permute(1, 2, 0).numpy())


def _rounded(values: NDArray[np.floating]) -> Picture:
    rounded: Picture = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded
