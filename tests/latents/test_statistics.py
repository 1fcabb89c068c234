"""AdaIN: what it takes from the style, and what it leaves of the content."""

import pytest
import torch

from kinopaint.latents.statistics import adain, statistics


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_of_itself_it_is_the_same(size):
    maps = random(2, 3, 4, *size)
    assert torch.allclose(adain(maps, maps), maps, atol=1e-6)


def test_mean_and_spread_are_those_of_the_style_in_every_channel():
    content, style = random(2, 3, 4, 6, 5), 3 * random(2, 3, 4, 2, 7, seed=1) + 1
    mean, deviation = statistics(adain(content, style))
    wanted_mean, wanted_deviation = statistics(style)
    assert torch.allclose(mean, wanted_mean, atol=1e-5)
    assert torch.allclose(deviation, wanted_deviation, rtol=1e-4)


def test_the_spread_is_the_unbiased_one():
    maps = random(1, 1, 3, 3)
    assert torch.allclose(statistics(maps)[1], (maps.std((-2, -1), keepdim=True) ** 2 + 1e-5).sqrt())


def test_one_frame_of_the_style_stands_for_all():
    content, style = random(3, 4, 5, 5), random(1, 4, 5, 5, seed=1)
    assert torch.equal(adain(content, style), adain(content, style.expand(3, -1, -1, -1)))


def test_a_flat_channel_stays_finite():
    assert torch.isfinite(adain(torch.ones(1, 2, 3, 3), random(1, 2, 3, 3))).all()
