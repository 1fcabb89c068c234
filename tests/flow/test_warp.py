"""Warping and resizing of flow: identities, direction, gradients, the trap of corner alignment."""

import numpy as np
import pytest
import torch
from tests.flow.conftest import constant_flow

from kinopaint.errors import ShapeError
from kinopaint.flow import inside, resize_flow, warp


@pytest.mark.parametrize("size", [(64, 96), (7, 5), (1, 9), (1, 1)])
def test_zero_flow_is_the_identity(size):  # T33: fails without align_corners=True
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(2, 2, *size)
    assert torch.allclose(warp(image, zero), image, atol=2e-5)
    assert torch.equal(warp(image, zero, mode="nearest"), image)


def test_flow_points_to_where_the_pixel_is_read(texture):
    seen = warp(texture, constant_flow(3, -2))  # x before y
    assert torch.allclose(seen[..., 2:, :-3], texture[..., :-2, 3:], atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two(texture):
    seen = warp(texture, constant_flow(0.5, 0))
    assert torch.allclose(seen[..., :-1], (texture[..., :-1] + texture[..., 1:]) / 2, atol=1e-4)


def test_outside_reads_as_zero_and_inside_tells():
    image = torch.ones(1, 1, 64, 96)
    flow = constant_flow(10, 0)
    seen, within = warp(image, flow), inside(flow)
    assert torch.equal(seen[..., :86], torch.ones(1, 1, 64, 86))
    assert not seen[..., 87:].any()
    assert within[..., :86].all()
    assert not within[..., 86:].any()


def test_outside_a_single_row_or_column_reads_as_zero():  # where the centres of the first and last pixel are one
    for size, move in (((1, 9), (0, 1)), ((9, 1), (1, 0)), ((1, 1), (-1, 0))):
        image = torch.ones(1, 1, *size)
        assert not warp(image, constant_flow(*move, *size)).any()
        half = warp(image, constant_flow(*(part / 4 for part in move), *size))
        assert torch.allclose(half, torch.full_like(half, 0.75))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_place_does_not_depend_on_the_precision_of_the_image(dtype):
    image = torch.rand(1, 3, 8, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    moved = warp(image, constant_flow(7, -2, 8, 300))
    assert moved.dtype == dtype
    error = (moved[..., 2:, :-7].double() - image[..., :-2, 7:].double()).abs().max()
    assert error <= 2 * torch.finfo(dtype).eps + 1e-4


def test_brute_force_bilinear():
    random = np.random.default_rng(1)
    image, flow = random.random((5, 6)), random.uniform(-2, 2, (2, 5, 6))
    seen = warp(torch.tensor(image)[None, None].float(), torch.tensor(flow)[None].float())[0, 0]
    for row in range(5):
        for column in range(6):
            x, y = column + flow[0, row, column], row + flow[1, row, column]
            left, top = int(np.floor(x)), int(np.floor(y))
            value = 0.0
            for i in (top, top + 1):
                for j in (left, left + 1):
                    if 0 <= i < 5 and 0 <= j < 6:
                        value += image[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
            assert seen[row, column].item() == pytest.approx(value, abs=1e-5)


def test_gradients_flow_through_image_and_flow(texture):
    image, flow = texture.clone().requires_grad_(), constant_flow(0.3, 0.3).requires_grad_()
    warp(image, flow).square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert flow.grad.abs().sum() > 0


def test_sizes_that_differ_are_refused(texture):
    with pytest.raises(ShapeError, match="resize_flow"):
        warp(texture, torch.zeros(1, 2, 32, 48))


def test_resized_flow_scales_its_vectors(texture):
    half = resize_flow(constant_flow(8, -4), 16, 48)
    assert half.shape == (1, 2, 16, 48)
    assert torch.allclose(half, constant_flow(4, -1, 16, 48), atol=1e-5)
    assert torch.allclose(resize_flow(half, 64, 96), constant_flow(8, -4), atol=1e-5)
    assert resize_flow(half, 16, 48) is half
