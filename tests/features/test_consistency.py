"""Feature optimisation: what pulls, what stays, and what it costs."""

import pytest
import torch
import torch.nn.functional as F
from tests.flow.test_ring import Zero, random_frames

from kinopaint.engine.interventions import FeatureCall
from kinopaint.engine.load import PeakMemory
from kinopaint.errors import ShapeError
from kinopaint.features import self_similarity
from kinopaint.features.consistency import Consistency, FeatureMaps, SpatialTerm, TemporalTerm, made_consistent
from kinopaint.features.self_similarity import unit_rows
from kinopaint.flow.differences import differences_along
from kinopaint.flow.pair import FlowPair
from kinopaint.flow.ring import FlowRing, flow_ring
from kinopaint.flow.warp import warp


def features(seed, frames=3, channels=5, height=4, width=6):
    return torch.randn(2, frames, channels, height, width, generator=torch.Generator().manual_seed(seed))


def moving_ring(frames=3, height=32, width=48):
    """Smooth motion of a few pixels, and some places hidden."""
    noise = torch.Generator().manual_seed(3)

    def flow():
        coarse = 6 * torch.randn(frames, 2, 4, 6, generator=noise)
        return F.interpolate(coarse, (height, width), mode="bilinear")

    def hidden():
        return (torch.rand(frames, 1, height, width, generator=noise) < 0.01).float()

    return FlowRing(random_frames(frames, height, width), FlowPair(flow(), flow()), hidden(), hidden())


def still_ring(frames=3):
    return flow_ring(random_frames(1, 32, 48).expand(frames, -1, -1, -1), Zero())


def spatial_loss(feature, reference):
    """FRESCO's mean over branches, frames and pairs of cells, with the whole tables."""
    tables = [(unit := F.normalize(maps.flatten(3), dim=2)).transpose(2, 3) @ unit for maps in (feature, reference)]
    return (tables[0] - tables[1]).abs().mean()


def temporal_loss(feature, ring, *, cyclic=True, mean=True):
    """The same by warping: features as seen from the next frame, and back, where they can be seen."""
    size, count = feature.shape[-2:], len(ring) if cyclic else len(ring) - 1
    flow, total = ring.at(*size), 0
    for pair in range(count):
        ways = [(ring.later[pair], pair, flow.backward, ring.hidden_later)]
        if cyclic:
            ways.append((pair, ring.later[pair], flow.forward, ring.hidden_earlier))
        for here, there, way, hidden in ways:
            brought = warp(feature[:, there], way[pair, None].expand(len(feature), -1, -1, -1))
            seen = 1 - F.adaptive_max_pool2d(hidden[pair], size)
            total = total + ((feature[:, here] - brought).abs() * seen).sum()
    return total / (feature[:, 0].numel() * count) if mean else total


def cells(feature):
    return feature.permute(1, 3, 4, 0, 2).reshape(-1, feature.shape[0] * feature.shape[2])


@pytest.mark.parametrize("mean", [True, False])
def test_frame_by_frame_the_spatial_gradient_is_that_of_the_whole(mean):
    reference, feature = features(1), features(0).requires_grad_()
    count = 1 if mean else 2 * 3 * 24**2
    (7.0 * count * spatial_loss(feature, reference)).backward()
    wanted = [[unit_rows(frame) for frame in branch] for branch in reference]
    found = SpatialTerm(7.0).gradient(cells(feature.detach()), wanted, (4, 6), mean=mean)
    expected = cells(feature.grad)
    assert torch.allclose(found, expected, atol=1e-6 * max(1.0, expected.abs().max()))


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("cyclic", [True, False])
def test_the_temporal_gradient_is_that_of_warping(cyclic, mean):
    ring, feature = moving_ring(), features(0).requires_grad_()
    (3.0 * temporal_loss(feature, ring, cyclic=cyclic, mean=mean)).backward()
    apart = differences_along(ring, 4, 6, cyclic=cyclic)
    found = TemporalTerm(3.0).gradient(cells(feature.detach()), apart, mean=mean)
    expected = cells(feature.grad)
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())


def test_both_losses_fall():
    ring, feature = still_ring(), features(0)
    reference = features(1, frames=1).expand(-1, 3, -1, -1, -1)  # of equal frames
    result = Consistency(temporal=TemporalTerm(30.0)).optimised(feature, reference, ring)
    assert spatial_loss(result, reference) < 0.8 * spatial_loss(feature, reference)
    assert temporal_loss(result, ring) < 0.8 * temporal_loss(feature, ring)


OFF = {"temporal": TemporalTerm(0.0), "spatial": SpatialTerm(0.0)}


@pytest.mark.parametrize(("only", "other"), [("temporal", "spatial"), ("spatial", "temporal")])
def test_each_term_acts_alone(only, other):
    ring, feature, reference = moving_ring(), features(0), features(1)
    result = Consistency(**{other: OFF[other]}).optimised(feature, reference, ring)
    losses = {"temporal": lambda f: temporal_loss(f, ring), "spatial": lambda f: spatial_loss(f, reference)}
    assert losses[only](result) < 0.8 * losses[only](feature)
    assert losses[other](result) > 0.9 * losses[other](feature)


def test_mean_and_deviation_of_every_channel_stay():
    feature = 3 * features(0) + 2
    result = Consistency().optimised(feature, features(1), moving_ring())
    assert not torch.allclose(result, feature, atol=0.1)
    assert torch.allclose(result.mean((-2, -1)), feature.mean((-2, -1)), atol=1e-5)
    assert torch.allclose(result.std((-2, -1)), feature.std((-2, -1)), rtol=1e-4)


@pytest.mark.parametrize("nothing", [{"iterations": 0}, OFF])
def test_without_iterations_or_weights_the_input_comes_back(nothing):
    feature = features(0)
    result = Consistency(**nothing).optimised(feature, features(1), moving_ring())
    assert torch.allclose(result, feature, atol=1e-6)


def test_a_single_frame_has_only_the_spatial_term():
    feature, reference = features(0, frames=1), features(1, frames=1)
    ring = flow_ring(random_frames(1, 32, 48), Zero())
    result = Consistency().optimised(feature, reference, ring)
    assert spatial_loss(result, reference) < spatial_loss(feature, reference)


@pytest.mark.parametrize("size", [(1, 1), (1, 2)])
def test_maps_of_one_cell_stay_finite(size):
    feature = features(0, height=size[0], width=size[1])
    assert torch.isfinite(Consistency().optimised(feature, features(1, 3, 5, *size), moving_ring())).all()


def test_it_works_where_gradients_are_off_and_keeps_the_precision():
    with torch.no_grad():
        result = Consistency(iterations=2).optimised(features(0).half(), features(1).half(), moving_ring())
    assert result.dtype == torch.float16
    assert not result.requires_grad


def call_of(feature, step, path="up_blocks.1"):
    return FeatureCall(feature, path, step, ("nothing", "words"))


def test_the_hook_acts_on_recorded_blocks(step):
    seen, ring, how = FeatureMaps(), moving_ring(), Consistency(iterations=2)
    reference = call_of(features(1), step)
    assert seen(reference) is reference.feature
    feature = features(0)
    hook = made_consistent(how, seen, ring)
    assert torch.equal(hook(call_of(feature, step)), how.optimised(feature, features(1), ring))
    with pytest.raises(ShapeError, match="no reference"):
        hook(call_of(feature, step, "up_blocks.2"))
    with pytest.raises(ShapeError, match="no reference"):
        hook(call_of(feature[:1], step))


def test_memory_grows_with_the_window_as_the_features_do(monkeypatch):
    """No more than in proportion: twice the frames, twice the memory."""
    monkeypatch.setattr(self_similarity, "_TILE", 2**12)
    peaks = {}
    for count in (2, 4, 8):
        feature, ring = features(0, count, 8, 16, 24), moving_ring(count)
        with PeakMemory() as memory:
            Consistency(iterations=2).optimised(feature, feature, ring)
        peaks[count] = memory.peak
    assert peaks[8] - peaks[4] <= 1.05 * 2 * (peaks[4] - peaks[2])
    assert peaks[8] < 4.1 * peaks[2]
