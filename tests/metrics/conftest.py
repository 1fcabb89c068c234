"""Short videos as lists of pictures, and flow that is known."""

import numpy as np
import pytest
import torch

from kinopaint.metrics.measure import Moment, measure


class ExactFlow:
    """Flow of a video whose picture moves by (x, y) pixels per frame: known from a number in the top left pixel."""

    identity = "exact"

    def __init__(self, x=0.0, y=0.0):
        self.motion = x, y

    def estimate(self, target, source):
        steps = (_number(target) - _number(source)).view(-1, 1, 1, 1)
        # X_t(p) = X_s(p - (t - s) d), so F_{t→s} = -(t - s) d
        flow = -steps * torch.tensor(self.motion).view(1, 2, 1, 1)
        return flow.expand(-1, 2, *target.shape[-2:]).contiguous().float()


def _number(frames):
    return ((frames[:, 0, 0, 0] + 1) * 127.5).round()


def numbered(pictures):
    """The pictures with their number written into the top left pixel, for ExactFlow."""
    marked = [picture.copy() for picture in pictures]
    for index, picture in enumerate(marked):
        picture[0, 0] = index
    return marked


def texture(height=40, width=56, seed=0):
    """An 8-bit picture with soft detail, 40 to 215."""
    import cv2

    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return np.rint(40 + 175 * soft).astype(np.uint8)


def panned(count, x, y=0, height=40, width=56):
    """A camera move over a still: each frame shows the picture shifted by (x, y) more pixels."""
    wide = texture(height + abs(y) * count, width + abs(x) * count, seed=3)
    frames = []
    for index in range(count):
        left = (count - index) * x if x > 0 else -index * x
        top = (count - index) * y if y > 0 else -index * y
        frames.append(wide[top : top + height, left : left + width].copy())
    return frames


@pytest.fixture
def measured():
    """A function: measure result pictures against source pictures; gives the row of the result."""

    def run(source, result, *, rate=12.0, **settings):
        moments = [
            Moment(index / rate, before, {"result": after})
            for index, (before, after) in enumerate(zip(source, result, strict=True))
        ]
        return measure(moments, **settings).rows["result"]

    return run
