"""The background is taken over from frame to frame; what moves or is hidden is not."""

import pytest
import torch
from tests.features.test_consistency import features, still_ring
from tests.flow.test_ring import Zero, random_frames

from kinopaint.features.background import still_background, with_still_background
from kinopaint.flow.pair import FlowPair
from kinopaint.flow.ring import FlowRing, flow_ring


def everywhere(ring):
    return torch.ones_like(ring.frames[:, :1])


def test_a_still_scene_is_all_background():
    assert still_background(still_ring()).all()


def test_what_moves_is_none_nor_what_lies_near_it():
    ring = still_ring(2)
    ring.pair.backward[0, 0, 10, 20] = 1.5
    background = still_background(ring)
    assert background[0].all()
    assert background[1].logical_not().nonzero().min(0).values.tolist() == [0, 7, 17]
    assert background[1].logical_not().nonzero().max(0).values.tolist() == [0, 13, 23]


def test_every_frame_takes_the_first_ones_background():
    maps, ring = features(0), still_ring()
    result = with_still_background(maps, ring, everywhere(ring))
    assert torch.allclose(result, maps[:, :1].expand_as(maps), atol=1e-5)


@pytest.mark.parametrize("what", ["moves", "hidden", "one frame"])
def test_elsewhere_maps_stay_as_they_are(what):
    ring = still_ring()
    maps, background = features(0), everywhere(ring)
    if what == "moves":
        background = torch.zeros_like(background)
    elif what == "hidden":
        ring = FlowRing(
            ring.frames, ring.pair, torch.ones_like(ring.hidden_later), torch.ones_like(ring.hidden_earlier)
        )
    else:
        maps, ring, background = maps[:, :1], flow_ring(random_frames(1, 32, 48), Zero()), background[:1]
    assert torch.equal(with_still_background(maps, ring, background), maps)


def test_the_last_frame_takes_it_from_the_first_once_more():
    ring = still_ring(3)
    hidden = torch.ones_like(ring.hidden_later)
    cut = FlowRing(ring.frames, FlowPair(ring.pair.backward, ring.pair.forward), hidden, torch.zeros_like(hidden))
    maps = features(0)
    result = with_still_background(maps, cut, everywhere(cut))
    assert torch.equal(result[:, :2], maps[:, :2])
    assert torch.allclose(result[:, 2], maps[:, 0], atol=1e-5)


def test_a_margin_widens_what_is_hidden():
    ring = still_ring(2)
    ring.hidden_later[0, 0, 16, 24] = 1
    ring.hidden_earlier[1] = 1  # the closing pair
    maps = random_frames(2, 32, 48)
    result = with_still_background(maps, ring, everywhere(ring), margin=13)
    kept = (result[1] == maps[1]).all(0)
    assert kept[10:23, 18:31].all()
    assert not kept[:9].any()


def test_the_background_is_what_stands_still_unless_it_is_given():
    ring = still_ring(2)
    ring.pair.backward[0, 0, 10, 20] = 1.5
    maps = random_frames(2, 32, 48)
    result = with_still_background(maps, ring)
    assert torch.equal(result, with_still_background(maps, ring, still_background(ring)))
    assert not torch.equal(result, with_still_background(maps, ring, everywhere(ring)))
