"""DIS finds known motion with the promised sign; RAFT says what it needs; the cache changes nothing but time."""

import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kinopaint.engine.cache import DiskCache, content_key
from kinopaint.errors import ModelError, SettingsError
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


class FakeRaft(torch.nn.Module):
    """Says how the frames came in: flow is 10 x (second - first), and the last of `num_flow_updates`."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, first, second, num_flow_updates):
        assert all(side % 8 == 0 and side >= 128 for side in first.shape[-2:])
        flow = self.scale * (second - first)[:, :2]
        return [torch.full_like(flow, torch.nan)] * (num_flow_updates - 1) + [flow]


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    """A stand-in for torchvision, which is no dependency of the tests."""
    optical_flow = ModuleType("torchvision.models.optical_flow")
    optical_flow.raft_large = lambda weights: FakeRaft()
    published = SimpleNamespace(url="https://example.invalid/raft-123.pth")
    optical_flow.Raft_Large_Weights = SimpleNamespace(DEFAULT=published)
    models = ModuleType("torchvision.models")
    models.optical_flow = optical_flow
    for name, module in (("torchvision", ModuleType("torchvision")), ("torchvision.models", models)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    save_file({"scale": torch.tensor(10.0)}, tmp_path / "raft.safetensors")
    return tmp_path


def test_raft_pads_calls_target_first_and_crops(torchvision):
    raft = RaftFlow(weights=torchvision / "raft.safetensors")
    assert isinstance(raft, FlowEstimator)
    target, source = torch.rand(2, 2, 3, 37, 150, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(raft.estimate(target, source), 10 * (source - target)[:, :2])


def test_raft_identity_changes_with_weights_and_settings(torchvision):
    file = torchvision / "raft.safetensors"
    first, fewer = RaftFlow(weights=file).identity, RaftFlow(weights=file, updates=6).identity
    save_file({"scale": torch.tensor(11.0)}, file)
    assert len({first, fewer, RaftFlow(weights=file).identity, RaftFlow().identity}) == 4


def test_raft_without_fitting_weights_says_what_to_do(torchvision):
    frames = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ModelError, match="local cache") as raised:
        RaftFlow().estimate(frames, frames)
    assert raised.value.code == "KP-MODEL-NOT-CACHED"
    save_file({"other": torch.tensor(1.0)}, torchvision / "other.safetensors")
    with pytest.raises(ModelError, match="not the weights of RAFT large"):
        RaftFlow(weights=torchvision / "other.safetensors").estimate(frames, frames)
    (torchvision / "broken.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="cannot be read"):
        RaftFlow(weights=torchvision / "broken.safetensors").estimate(frames, frames)


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
