"""E_warp, L_temporal, Lai's error and Pixel-MSE: identities, hand-computed values, plain NumPy, monotony."""

import numpy as np
import pytest
import torch
from tests.metrics.conftest import ExactFlow, numbered, panned, texture

from kinopaint.flow import FlowPair
from kinopaint.metrics.e_warp import e_pair, e_warp, e_warp_by_frame
from kinopaint.metrics.l_temporal import l_temporal
from kinopaint.metrics.pixel_mse import pixel_mse
from kinopaint.metrics.warp_error_lai import warp_error_lai

WARPING = ("e_warp", "e_warp_previous", "e_warp_first", "l_temporal", "l_temporal_10", "warp_error_lai", "pixel_mse")


def frames_of(*values):
    """A frame of 1x2 pixels from two RGB triples in [0, 1]."""
    return torch.tensor(values, dtype=torch.float32).T.reshape(1, 3, 1, 2)


def test_by_hand():
    now = frames_of((0.5, 0.5, 0.5), (0.9, 0.1, 0.2))
    warped = frames_of((0.4, 0.7, 0.5), (0.0, 0.0, 0.0))
    left_only = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    both = torch.ones(1, 1, 1, 2)
    assert e_pair(now, warped, left_only) == pytest.approx(0.1 + 0.2 + 0.0)
    assert e_pair(now, warped, left_only, channel_reduction="mean") == pytest.approx(0.1)
    assert e_pair(now, warped, both) == pytest.approx((0.3 + 1.2) / 2)
    assert l_temporal(now, warped, left_only) == pytest.approx(0.3 / 3)
    assert warp_error_lai(now, warped, left_only) == pytest.approx((0.01 + 0.04) / 3)
    assert pixel_mse(now, warped, both) == pytest.approx((0.01 + 0.04 + 0.81 + 0.01 + 0.04) / 6)


@pytest.mark.parametrize("metric", [e_pair, l_temporal, warp_error_lai, pixel_mse])
def test_no_visible_pixel_is_undefined(metric):
    frame = torch.rand(1, 3, 4, 5)
    assert metric(frame, frame, torch.zeros(1, 1, 4, 5)) is None


def test_pairs_without_a_visible_pixel_are_left_out_of_the_mean():
    previous, first = [None, 0.1, None, 0.3], [None, 0.1, 0.5, None]
    assert e_warp(previous, first) == pytest.approx((0.1 + 0.3) / 2 + (0.1 + 0.5) / 2)
    assert e_warp_by_frame(previous, first) == [None, pytest.approx(0.2), None, None]
    assert e_warp([None, None], [None, 0.2]) is None


def test_static_video_has_no_error(measured):  # T34
    still = [texture()] * 12
    row = measured(still, still)
    assert all(row.metrics[name] == pytest.approx(0, abs=1e-6) for name in WARPING)


def test_moving_video_with_exact_flow_has_no_error(measured):  # T35
    frames = numbered(panned(12, 2, -1))
    row = measured(frames, frames, flow=ExactFlow(2, -1))
    assert row.metrics["e_warp"] < 2e-3  # the numbered pixel only
    assert row.metrics["l_temporal"] < 1e-3
    wrong = measured(frames, frames, flow=ExactFlow(-2, 1))
    assert wrong.metrics["e_warp"] > 0.05


def test_constant_offset_of_one_frame(measured):  # T36
    source = [texture()] * 2
    result = [source[0], source[0] + 20]
    row = measured(source, result)
    assert row.metrics["e_warp_previous"] == pytest.approx(3 * 20 / 255, abs=1e-5)
    assert row.metrics["l_temporal"] == pytest.approx(20 / 255, abs=1e-5)
    assert row.metrics["warp_error_lai"] == pytest.approx((20 / 255) ** 2, abs=1e-5)


def test_two_frames_count_their_pair_twice(measured):  # T37
    row = measured([texture()] * 2, [texture(), texture(seed=1)])
    assert row.metrics["e_warp"] == pytest.approx(2 * row.metrics["e_warp_previous"])
    assert row.metrics["e_warp_previous"] > 0.1


def test_gap_of_ten_sees_what_neighbours_do_not(measured):
    source = [texture()] * 12
    result = [source[0] + 2 * index for index in range(12)]  # a slow drift
    row = measured(source, result)
    assert row.metrics["l_temporal"] == pytest.approx(2 / 255, abs=1e-5)
    assert row.metrics["l_temporal_10"] == pytest.approx(20 / 255, abs=1e-5)
    assert [index for index, value in enumerate(row.per_frame["l_temporal_10"]) if value is not None] == [10]
    longer = measured([source[0]] * 21, [source[0] + index for index in range(21)]).per_frame["l_temporal_10"]
    assert [index for index, value in enumerate(longer) if value is not None] == [10, 15, 20]


@pytest.mark.parametrize("name", WARPING)
def test_more_flicker_is_worse(measured, name):
    source = panned(13, 1)

    def at(strength):
        flicker = np.random.default_rng(4).integers(-1, 2, 13)
        shifted = [frame + strength * step for frame, step in zip(source, flicker, strict=True)]
        return measured(source, [frame.clip(0, 255).astype(np.uint8) for frame in shifted])

    values = [at(strength).metrics[name] for strength in (0, 8, 16, 32)]
    assert values == sorted(values)
    assert values[3] > values[0] + 1e-3


def test_against_plain_numpy():
    """All four from loops over pixels, with flow, visibility and sampling written out once more."""
    random = np.random.default_rng(6)
    height, width = 9, 11
    now, earlier = random.random((2, 3, height, width))
    drift = np.array([1.3, -0.6]).reshape(2, 1, 1)
    backward = -drift + random.normal(0, 0.05, (2, height, width))
    forward = drift + random.normal(0, 0.02, (2, height, width))

    def sample(image, x, y):
        total = np.zeros(len(image))
        for i in (int(np.floor(y)), int(np.floor(y)) + 1):
            for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= i < height and 0 <= j < width:
                    total += image[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
        return total

    def compare(here, other, flow, back):
        """Differences at visible pixels, and at pixels inside."""
        seen, inside = [], []
        for y in range(height):
            for x in range(width):
                b = flow[:, y, x]
                px, py = x + b[0], y + b[1]
                if not (0 <= px <= width - 1 and 0 <= py <= height - 1):
                    continue
                difference = here[:, y, x] - sample(other, px, py)
                inside.append(difference)
                w = sample(back, px, py)
                right = flow[:, y, x + 1] - b if x + 1 < width else np.zeros(2)
                below = flow[:, y + 1, x] - b if y + 1 < height else np.zeros(2)
                edge = (right**2).sum() + (below**2).sum() > 0.01 * (b**2).sum() + 0.002
                if ((w + b) ** 2).sum() <= 0.01 * ((w**2).sum() + (b**2).sum()) + 0.5 and not edge:
                    seen.append(difference)
        return np.array(seen), np.array(inside)

    later_seen, later_inside = compare(now, earlier, backward, forward)
    earlier_seen, _ = compare(earlier, now, forward, backward)
    assert 10 < len(later_seen) < len(later_inside)

    from kinopaint.flow import warp

    a, b, back, ahead = (torch.tensor(array)[None].float() for array in (now, earlier, backward, forward))
    pair = FlowPair(back, ahead)
    before, after = warp(b, back), warp(a, ahead)
    assert e_pair(a, before, pair.visible_later) == pytest.approx(np.abs(later_seen).sum(1).mean(), rel=1e-4)
    assert pixel_mse(a, before, pair.inside_later) == pytest.approx((later_inside**2).mean(), rel=1e-4)
    assert l_temporal(b, after, pair.visible_earlier) == pytest.approx(np.abs(earlier_seen).mean(), rel=1e-4)
    assert warp_error_lai(b, after, pair.visible_earlier) == pytest.approx((earlier_seen**2).mean(), rel=1e-4)
