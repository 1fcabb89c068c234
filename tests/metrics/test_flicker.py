"""The flicker spectrum: known sines, motion that is no flicker, plain NumPy."""

import cmath
import math

import numpy as np
import pytest
import torch
from tests.metrics.conftest import ExactFlow, numbered, panned

from kinopaint.metrics.flicker import flicker, luminance_step


def steps_of(levels):
    return [None, *(np.diff(levels) / 255)]


def test_energy_of_a_sine_is_half_its_squared_amplitude():
    at = np.arange(240) / 24
    assert flicker(steps_of(3 * np.sin(2 * np.pi * 6 * at)), 24) == pytest.approx(4.5, rel=0.02)
    assert flicker(steps_of(3 * np.sin(2 * np.pi * 2 * at)), 24) == pytest.approx(0, abs=0.01)  # slow: not flicker


def test_alternating_frames_by_hand():
    levels = np.where(np.arange(200) % 2, 101.0, 99.0)  # amplitude 1 at the Nyquist frequency
    assert flicker(steps_of(levels), 24) == pytest.approx(1, rel=0.02)


def test_slow_change_is_no_flicker():
    assert flicker(steps_of(np.linspace(0, 200, 100)), 25) == pytest.approx(0, abs=1e-9)


def test_more_flicker_is_more_energy():
    random = np.random.default_rng(0).normal(size=100)
    values = [flicker(steps_of(strength * random), 25) for strength in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(4 * values[1])


def test_too_few_or_too_slow_frames_are_undefined():
    assert flicker(steps_of(np.zeros(7)), 25) is None
    assert flicker(steps_of(np.zeros(8)), 25) == 0
    assert flicker(steps_of(np.zeros(100)), 8) is None


def test_against_a_sum_over_frequencies():
    levels = np.random.default_rng(1).normal(0, 5, 21)
    steps, count, rate = steps_of(levels), 21, 15.0
    signal = levels - levels[0]
    at = np.arange(count)
    slope = ((at - at.mean()) * (signal - signal.mean())).sum() / ((at - at.mean()) ** 2).sum()
    signal = signal - signal.mean() - slope * (at - at.mean())
    window = [math.sin(math.pi * (k + 1) / (count + 1)) ** 2 for k in range(count)]
    energy = 0.0
    for k in range(count):
        frequency = min(k, count - k) * rate / count
        if frequency > 4:
            x = sum(window[n] * signal[n] * cmath.exp(-2j * math.pi * k * n / count) for n in range(count))
            energy += abs(x) ** 2
    energy /= count * sum(w * w for w in window)
    assert flicker(steps, rate) == pytest.approx(energy, rel=1e-6)


def test_luminance_step_by_hand():
    now, before = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    now[0, :, 0, 0] = torch.tensor([0.5, 0.25, 1.0])
    now[0, :, 0, 1] = 1
    left = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert luminance_step(now, before, left) == pytest.approx(0.2126 * 0.5 + 0.7152 * 0.25 + 0.0722)
    assert luminance_step(now, before, torch.ones(1, 1, 1, 2)) == pytest.approx((0.3575 + 1) / 2, abs=1e-4)
    assert luminance_step(now, before, torch.zeros(1, 1, 1, 2)) is None


def test_a_bright_thing_entering_is_no_flicker_but_a_lamp_is(measured):
    """A camera move over stripes changes the frames' mean luminance quickly; along the motion nothing changes."""
    frames = panned(24, 4)
    stripes = np.repeat((np.arange(frames[0].shape[1] + 4 * 24) // 12 % 2) * 60, 1).astype(np.uint8)
    frames = [frame + stripes[4 * (24 - index) :][: frame.shape[1], None] for index, frame in enumerate(frames)]
    frames = numbered(frames)
    plain = flicker(steps_of([frame.mean() for frame in frames]), 24)
    row = measured(frames, frames, flow=ExactFlow(4, 0), rate=24)
    assert plain > 1
    assert row.metrics["flicker"] < 0.02 * plain
    lit = numbered([np.clip(frame + (index % 2) * 10, 0, 255).astype(np.uint8) for index, frame in enumerate(frames)])
    assert measured(frames, lit, flow=ExactFlow(4, 0), rate=24).metrics["flicker"] == pytest.approx(25, rel=0.1)
