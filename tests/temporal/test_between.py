"""Frames between painted keyframes follow the source's motion."""

import pytest
import torch
from tests.flow.test_ring import Zero, random_frames

from kinopaint.temporal.between import between_keyframes, in_between


class Known(Zero):
    """A camera that moves by `dx` from frame to frame: the later frame shows what was `dx` further right."""

    def __init__(self, wide, dx):
        self.wide, self.dx = wide, dx

    def estimate(self, target, source):
        shift = self._place(source) - self._place(target)
        flow = torch.zeros(1, 2, *target.shape[-2:])
        flow[:, 0] = -self.dx * shift
        return flow

    def _place(self, frame):
        return next(n for n in range(9) if torch.equal(frame[0], self.wide[..., self.dx * n : self.dx * n + 24]))


def pan(count, dx, seed=1):
    wide = torch.rand(3, 16, 24 + dx * count, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return wide, torch.stack([wide[..., dx * n : dx * n + 24] for n in range(count)])


@pytest.mark.parametrize("keys", [(0, 1, 2), (0, 2), (0, 4), (0, 1, 4), (1, 3)])
def test_as_many_frames_come_back_and_keyframes_as_they_are(keys):
    source, painted = random_frames(5), random_frames(5)[list(keys)] * 0.5
    result = between_keyframes(source, keys, painted, Zero())
    assert len(result) == keys[-1] - keys[0] + 1
    for key, frame in zip(keys, painted, strict=True):
        assert torch.equal(result[key - keys[0]], frame)


def test_one_keyframe_is_all():
    frames = random_frames(1)
    assert torch.equal(between_keyframes(frames, (0,), frames, Zero()), frames)


def test_of_a_still_scene_with_equal_keyframes_nothing_changes():
    source, painted = random_frames(1).expand(4, -1, -1, -1), random_frames(1)[0] * 0.3
    result = in_between(source, painted, painted, Zero())
    assert torch.allclose(result, painted.expand(2, -1, -1, -1), atol=1e-5)


def test_paint_moves_with_the_scene():
    """What is seen in both keyframes is where the source has it, over several frames put together."""
    wide, source = pan(4, dx=3)
    paint = 0.5 * wide.flip(0)
    painted = torch.stack([paint[..., 3 * n : 3 * n + 24] for n in range(4)])
    result = in_between(source, painted[0], painted[3], Known(wide, 3))
    inner = slice(9, 15)  # seen in all frames
    assert torch.allclose(result[..., inner], painted[1:3, ..., inner], atol=0.02)


def test_what_only_one_keyframe_shows_comes_from_that_one():
    """On a pan the first columns leave, the last ones enter; the other keyframe repeats its border there."""
    wide, source = pan(4, dx=3)
    paint = 0.5 * wide.flip(0)
    painted = torch.stack([paint[..., 3 * n : 3 * n + 24] for n in range(4)])
    result = in_between(source, painted[0], painted[3], Known(wide, 3))
    for place in (1, 2):
        assert (result[place - 1] - painted[place]).abs()[..., 2:-2].mean() < 0.05


def test_where_nothing_is_alike_the_nearer_keyframe_counts_more():
    dark, bright = torch.full((3, 16, 24), -0.5), torch.full((3, 16, 24), 0.5)
    source = torch.stack([-torch.ones_like(dark), *[torch.zeros_like(dark)] * 3, torch.ones_like(dark)])
    result = in_between(source, dark, bright, Zero())
    assert torch.allclose(result.mean((1, 2, 3)), torch.tensor([-0.25, 0.0, 0.25]), atol=1e-4)


def test_contrast_that_averaging_takes_is_given_back():
    source, textured = random_frames(1).expand(4, -1, -1, -1), random_frames(1)[0] * 0.5
    result = in_between(source, textured, torch.zeros_like(textured), Zero())
    assert result[0].std() > 0.8 * textured.std()  # two thirds of it are what the average keeps
