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


HINTS: Mapping[str, Hint] = {"canny": canny, "picture": picture}
_TOLD_BY_NAME = {"canny": "canny", "tile": "picture", "ip2p": "picture"}


def hint_for(name: str) -> str:
    """The kind of hint that a ControlNet of this name wants. Raises SettingsError (KP-CONTROLNET-HINT) if unknown."""
    for word, hint in _TOLD_BY_NAME.items():
        if word in name.lower():
            return hint
    raise SettingsError(
        "KP-CONTROLNET-HINT",
        f"the name does not tell what the ControlNet {name!r} follows",
        where="--controlnet",
        fix=f"write HINT=FOLDER, where HINT is one of {', '.join(HINTS)}",
    )
