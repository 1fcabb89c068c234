"""Colours of a shot held together: mean and deviation of each frame matched to a running average, in CIE Lab."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.types import Frame

RATE = 0.05  # share of a new frame in the running average: a real change of light is followed within a second
Colours = Float[Tensor, "2 3"]  # mean and deviation of L, a, b


def anchored(frame: Frame, running: Colours | None) -> tuple[Frame, Colours]:
    """`frame` with the mean and deviation of `running`, and that average moved on by this frame's own.

    None starts with this frame, which then stays as it is. Source: colour transfer by Reinhard et al. (IEEE CG&A 2001).
    """
    rgb = frame.float().clamp(-1, 1).permute(1, 2, 0).cpu().numpy() / 2 + 0.5
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
    own = np.stack([lab.mean((0, 1)), lab.std((0, 1))])
    measured = torch.from_numpy(own.astype(np.float32))
    if running is None:
        return frame, measured
    target = running.numpy()
    matched = (lab - own[0]) * (target[1] / np.maximum(own[1], 1e-3)) + target[0]
    painted = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB)
    back = torch.from_numpy(painted).permute(2, 0, 1).to(frame.device) * 2 - 1
    return back, running + RATE * (measured - running)
