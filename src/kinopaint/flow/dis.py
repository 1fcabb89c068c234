"""DIS: fast optical flow using dense inverse search (Kroeger et al., ECCV 2016, arXiv:1603.03590), OpenCV's version.

Runs on the CPU, needs no weights, and works on the grey values of 8-bit pictures.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch

from kinopaint.models.pixels import to_pictures
from kinopaint.types import Flow, Frames

_SMALLEST = 16  # pixels: OpenCV refuses pictures that are smaller than its patches


@dataclass(frozen=True)
class DisFlow:
    """`preset` as in OpenCV: "medium" is the one that the metrics are defined with."""

    preset: Literal["ultrafast", "fast", "medium"] = "medium"

    @property
    def identity(self) -> str:
        return f"dis-{self.preset}, OpenCV {cv2.__version__}"

    def estimate(self, target: Frames, source: Frames) -> Flow:
        """As `FlowEstimator.estimate`, frame by frame; fp32, on the device of `target`."""
        # The search keeps buffers between calls and may not be shared among threads: one for each call.
        search: Any = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.preset.upper()}"))
        flows = [
            _calculate(search, _grey(to_), _grey(from_))
            for to_, from_ in zip(to_pictures(target), to_pictures(source), strict=True)
        ]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(target.device)


def _grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _calculate(search: Any, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    height, width = target.shape
    bottom, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
    if bottom or right:
        target, source = (
            cv2.copyMakeBorder(grey, 0, bottom, 0, right, cv2.BORDER_REPLICATE) for grey in (target, source)
        )
    flow: np.ndarray = search.calc(target, source, None)
    return flow[:height, :width]
