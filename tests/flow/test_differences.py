"""How far frames are apart along the flow: the matrix against warping, and what has no row in it."""

import pytest
import torch
from tests.features.test_consistency import cells, features, moving_ring, still_ring, temporal_loss
from tests.flow.test_ring import Zero, random_frames

from kinopaint.flow.differences import differences_along
from kinopaint.flow.ring import FlowRing, flow_ring


def distance(feature, ring, cyclic=True):
    found = differences_along(ring, *feature.shape[-2:], cyclic=cyclic)
    return (found.matrix @ cells(feature)).abs().sum()


@pytest.mark.parametrize("cyclic", [True, False])
@pytest.mark.parametrize("frames", [2, 3, 5])
def test_it_is_the_distance_that_warping_finds(frames, cyclic):
    ring, feature = moving_ring(frames), features(0, frames)
    expected = temporal_loss(feature, ring, cyclic=cyclic, mean=False)
    assert torch.allclose(distance(feature, ring, cyclic), expected, rtol=1e-5)


def test_equal_frames_that_stand_still_are_not_apart():
    feature = features(0, frames=1).expand(-1, 3, -1, -1, -1)
    assert distance(feature, still_ring()) == 0


def test_what_cannot_be_seen_is_not_compared():
    ring = moving_ring()
    blind = FlowRing(ring.frames, ring.pair, torch.ones_like(ring.hidden_later), torch.ones_like(ring.hidden_earlier))
    assert len(differences_along(blind, 4, 6, cyclic=True).matrix) == 0


def test_one_hidden_pixel_hides_its_cell():
    """Occlusion grows when it is made smaller: rather no pull than a wrong one."""
    ring = still_ring(2)
    ring.hidden_later[0, 0, 0, 0] = 1
    feature = torch.zeros(1, 2, 1, 4, 6)
    feature[0, 1, 0, 0, 0] = 1.0
    assert distance(feature, ring, cyclic=False) == 0
    feature[0, 1, 0, 0, 1] = 1.0
    assert distance(feature, ring, cyclic=False) == 1


def test_the_paper_looks_backward_only_and_not_round_the_end():
    ring, feature = still_ring(3), torch.zeros(1, 3, 1, 4, 6)
    feature[:, 2] = 1.0
    assert distance(feature, ring, cyclic=False) == 24  # pair (1, 2)
    assert distance(feature, ring, cyclic=True) == 4 * 24  # and (2, 0), each both ways
    assert differences_along(ring, 4, 6, cyclic=False).pairs == 2
    assert differences_along(ring, 4, 6, cyclic=True).pairs == 3


@pytest.mark.parametrize("cyclic", [True, False])
def test_a_single_frame_is_compared_with_nothing(cyclic):
    found = differences_along(flow_ring(random_frames(1), Zero()), 4, 6, cyclic=cyclic)
    assert found.pairs == 0
    assert len(found.matrix) == 0
