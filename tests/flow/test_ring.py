"""The flow of a window, from frame to frame and round again."""

import pytest
import torch

from kinopaint.flow.ring import flow_ring


class Zero:
    identity = "zero"

    def estimate(self, target, source):
        return torch.zeros(len(target), 2, *target.shape[-2:])


class Shift(Zero):
    """As if each later frame showed what lies `dx` to its right in the earlier one."""

    def __init__(self, dx):
        self.dx, self.calls = dx, 0

    def estimate(self, target, source):
        self.calls += 1
        flow = torch.zeros(len(target), 2, *target.shape[-2:])
        flow[:, 0] = self.dx if self.calls == 1 else -self.dx
        return flow


def random_frames(count, height=16, width=24):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pairs_go_round():
    ring = flow_ring(random_frames(4), Zero())
    assert len(ring) == 4
    assert ring.later == [1, 2, 3, 0]


def test_one_frame_has_no_pairs():
    ring = flow_ring(random_frames(1), Zero())
    assert len(ring) == 0
    assert ring.newly_visible(2, 3).tolist() == [0, 1, 2, 3, 4, 5]


def test_equal_frames_hide_nothing_and_all_is_new_in_the_first_only():
    ring = flow_ring(random_frames(1).expand(3, -1, -1, -1), Zero())
    assert not ring.hidden_later.any()
    assert not ring.hidden_earlier.any()
    assert ring.newly_visible(4, 6).tolist() == list(range(24))


def test_what_looks_unlike_is_hidden_whatever_the_flow_says():
    frames = torch.full((2, 3, 16, 24), -0.3)
    frames[1, :, :, :12] += 0.6  # the mean over the channels decides: more than 0.5
    frames[1, 0, :, 12:] += 0.6
    ring = flow_ring(frames, Zero())
    assert ring.hidden_later[0, 0, :, :12].all()
    assert not ring.hidden_later[0, 0, :, 12:].any()
    assert ring.newly_visible(2, 4).tolist() == [*range(8), 8, 9, 12, 13]


def test_what_enters_the_picture_is_hidden():
    """A camera that pans by 8 pixels: the last columns of each later frame were not to be seen before."""
    wide = random_frames(1, 16, 40).repeat_interleave(1, 0)
    frames = torch.cat([wide[..., 8 * place : 8 * place + 24] for place in range(3)])
    ring = flow_ring(frames, Shift(8.0))
    for pair in (0, 1):  # the closing pair has another motion
        assert not ring.hidden_later[pair, :, :, :15].any()
        assert ring.hidden_later[pair, :, :, 16:].all()
        assert ring.hidden_earlier[pair, :, :, :8].all()
        assert not ring.hidden_earlier[pair, :, :, 9:].any()
    assert ring.newly_visible(2, 3).tolist() == [*range(6), 8, 11, 14, 17]


@pytest.mark.parametrize("pairs", [None, [1]])
def test_smaller_maps_have_shorter_vectors(pairs):
    ring = flow_ring(random_frames(3), Shift(8.0))
    small = ring.at(4, 3, pairs)
    assert small.backward.shape == (3 if pairs is None else 1, 2, 4, 3)
    assert torch.allclose(small.backward[:, 0], torch.tensor(1.0))
    assert torch.allclose(small.forward[:, 0], torch.tensor(-1.0))
