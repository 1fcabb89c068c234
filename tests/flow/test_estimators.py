"""DIS finds known motion with the promised sign; RAFT says what it needs; the cache changes nothing but time."""

import sys

import cv2
import numpy as np
import pytest
import torch

from kinopaint.engine.cache import DiskCache, content_key
from kinopaint.errors import SettingsError
from kinopaint.flow import CachedFlow, DisFlow, FlowEstimator, RaftFlow, flow_pair, warp
from kinopaint.models.pixels import to_pictures


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_dis_finds_a_translation(texture, moved, preset):
    """X_later(p) = X_earlier(p - d), so the flow later -> earlier is -d (spec T32)."""
    flow = DisFlow(preset).estimate(moved(texture, 4, -3), texture)
    middle = flow[..., 12:-12, 12:-12].mean((-2, -1))[0]
    assert middle.tolist() == pytest.approx([-4, 3], abs=0.3)


def test_warping_along_the_flow_shows_the_target(texture, moved):
    later = moved(texture, 4, -3)
    pair = flow_pair(DisFlow(), later, texture)
    plain = ((texture - later).abs() * pair.visible_later).sum()
    assert ((warp(texture, pair.backward) - later).abs() * pair.visible_later).sum() < 0.1 * plain
    assert ((warp(later, pair.forward) - texture).abs() * pair.visible_earlier).sum() < 0.1 * plain
    assert pair.visible_later.mean() > 0.7


def test_dis_is_opencv_s_on_grey_8_bit_pictures(texture, moved):
    one, other = texture, moved(texture, 2, 1)
    grey = [cv2.cvtColor(to_pictures(frame)[0], cv2.COLOR_RGB2GRAY) for frame in (one, other)]
    direct = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    assert np.array_equal(DisFlow().estimate(one, other)[0].permute(1, 2, 0).numpy(), direct)


def test_dis_does_not_depend_on_threads_or_batches(texture, moved):
    targets, sources = torch.cat([texture, moved(texture, 1, 1)]), torch.cat([moved(texture, 3, 0), texture])
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(DisFlow().estimate(targets, sources))
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(*found)
    alone = torch.cat([DisFlow().estimate(a, b) for a, b in zip(targets.split(1), sources.split(1), strict=True)])
    assert torch.equal(found[0], alone)


@pytest.mark.parametrize("size", [(1, 1), (9, 11), (8, 200)])
def test_dis_takes_tiny_frames(size):
    frames = torch.zeros(1, 3, *size)
    assert torch.equal(DisFlow().estimate(frames, frames), torch.zeros(1, 2, *size))


def test_raft_without_torchvision_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(SettingsError, match="torchvision") as raised:
        RaftFlow()
    assert raised.value.code == "KP-EXTRA-RAFT"
    assert "kinopaint[raft]" in raised.value.fix


class Counting:
    """DIS, counting its calls."""

    identity = "counting 1"
    calls = 0

    def estimate(self, target, source):
        self.calls += 1
        return DisFlow().estimate(target, source)


def test_cached_flow_is_the_same_and_estimated_once(texture, moved, tmp_path):
    counting = Counting()
    cached = CachedFlow(counting, DiskCache(tmp_path))
    assert isinstance(cached, FlowEstimator)
    one, other = texture, moved(texture, 2, 0)
    first = cached.estimate(torch.cat([one, other]), torch.cat([other, one]))
    assert counting.calls == 2
    again = CachedFlow(counting, DiskCache(tmp_path)).estimate(torch.cat([one, other]), torch.cat([other, one]))
    assert counting.calls == 2
    assert torch.equal(first, again)
    assert torch.equal(first, DisFlow().estimate(torch.cat([one, other]), torch.cat([other, one])))


def test_cache_key_covers_content_order_and_estimator(texture, moved, tmp_path):
    counting = Counting()
    cached = CachedFlow(counting, DiskCache(tmp_path))
    changed = texture.clone()
    changed[0, 0, 0, 0] += 1e-3
    other = moved(texture, 2, 0)
    for pair in ((texture, other), (other, texture), (changed, other)):
        cached.estimate(*pair)
    assert counting.calls == 3
    counting.identity = "counting 2"
    cached.estimate(texture, other)
    assert counting.calls == 4


def test_content_key_tells_shapes_types_and_borders_apart():
    zeros = torch.zeros(6)
    keys = [
        content_key(zeros),
        content_key(zeros.view(2, 3)),
        content_key(zeros.half()),
        content_key("ab", "c"),
        content_key("a", "bc"),
        content_key(zeros[:0]),
    ]
    assert len(set(keys)) == len(keys)
