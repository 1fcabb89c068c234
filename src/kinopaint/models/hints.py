"""Pictures that a ControlNet follows, made from the frames."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch

from kinopaint.errors import SettingsError
from kinopaint.models.pixels import to_pictures
from kinopaint.types import Frames

Hint = Callable[[Frames], Frames]  # frames in [-1, 1] to pictures in [0, 1]


def canny(frames: Frames) -> Frames:
    """White edges on black, with the thresholds 100 and 200 that Canny ControlNets were trained with."""
    edges = np.stack(
        [cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 100, 200) for picture in to_pictures(frames)]
    )
    return torch.from_numpy(edges).to(frames.device).float().div(255)[:, None].expand(-1, 3, -1, -1).contiguous()


def picture(frames: Frames) -> Frames:
    """The frame itself: for ControlNets of the kinds tile and ip2p."""
    return (frames.float() / 2 + 0.5).clamp(0, 1)


def lines(frames: Frames) -> Frames:
    """Soft white contours on black: m² / (m² + k²), m the steepest slope of any colour after a blur of one pixel.

    k = 0.04 of the range per pixel is where a contour counts half: sensor noise vanishes, and nothing flips from frame
    to frame as it would at the thresholds of `canny`. The embedded model's ControlNet was trained on these.
    """
    drawn = []
    for image in to_pictures(frames):
        smooth = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), 1.0)
        slope = np.hypot(*(cv2.Scharr(smooth, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))).max(-1)
        drawn.append(slope**2 / (slope**2 + 0.04**2))
    return torch.from_numpy(np.stack(drawn)).to(frames.device)[:, None].expand(-1, 3, -1, -1).contiguous()


HINTS: Mapping[str, Hint] = {"canny": canny, "lines": lines, "picture": picture}
_TOLD_BY_NAME = {"canny": "canny", "tile": "picture", "ip2p": "picture"}


def hint_for(name: str) -> str:
    """The kind of hint that a ControlNet of this name wants. Raises SettingsError (KP-CONTROLNET-HINT) if unknown."""
    if name == "mini":  # the one that the embedded model carries
        return "lines"
    for word, hint in _TOLD_BY_NAME.items():
        if word in name.lower():
            return hint
    raise SettingsError(
        "KP-CONTROLNET-HINT",
        f"the name does not tell what the ControlNet {name!r} follows",
        where="--controlnet",
        fix=f"write HINT=FOLDER, where HINT is one of {', '.join(HINTS)}",
    )
