"""Self-similarity of feature maps, tile by tile."""

import pytest
import torch

from kinopaint.engine.load import PeakMemory
from kinopaint.features import self_similarity
from kinopaint.features.self_similarity import self_similarity_distance, unit_rows


def random_map(seed, channels=6, height=5, width=7):
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))


def written_out(rows, target, norm):
    difference = rows @ rows.t() - target @ target.t()
    return difference.abs().sum() if norm == "l1" else difference.square().sum()


def test_rows_are_the_cells_at_unit_length():
    rows = unit_rows(random_map(0))
    assert rows.shape == (35, 6)
    assert torch.allclose(rows.norm(dim=1), torch.ones(35))
    assert torch.allclose((rows @ rows.t()).diagonal(), torch.ones(35))


@pytest.mark.parametrize(("most", "cells"), [(0, 35), (35, 35), (34, 12), (11, 4), (3, 1)])
def test_large_maps_are_averaged_until_they_are_small_enough(most, cells):
    assert len(unit_rows(random_map(0), most)) == cells


def test_averaging_takes_two_by_two_cells():
    feature = random_map(0, height=4, width=6)
    wanted = torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(feature, 2).flatten(1).t(), dim=1)
    assert torch.allclose(unit_rows(feature, 6), wanted, atol=1e-6)


@pytest.mark.parametrize("tile", [2**21, 35 * 8, 1])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_distance_and_gradient_are_those_of_the_written_out_table(norm, tile, monkeypatch):
    monkeypatch.setattr(self_similarity, "_TILE", tile)
    target = unit_rows(random_map(1))
    found = []
    for function in (
        lambda rows: self_similarity_distance(rows, target, norm=norm),
        lambda r: written_out(r, target, norm),
    ):
        feature = random_map(0).requires_grad_()
        distance = function(unit_rows(feature))
        (3 * distance).backward()
        found.append((distance.detach(), feature.grad))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-4 * found[1][1].abs().max())


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_of_the_target_itself_distance_and_gradient_are_zero(norm):
    feature = random_map(0).requires_grad_()
    rows = unit_rows(feature)
    distance = self_similarity_distance(rows, rows.detach(), norm=norm)
    distance.backward()
    assert distance <= 1e-3 if norm == "l1" else distance <= 1e-9
    if norm == "l2":  # the slope of |x| at rounding errors is ±1
        assert feature.grad.abs().max() <= 1e-5


def test_the_table_is_blind_to_rotations_and_lengths_of_the_cells():
    rows = unit_rows(random_map(0))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4))).Q
    assert self_similarity_distance(unit_rows(2 * random_map(0)), rows) <= 1e-3
    assert self_similarity_distance(rows @ rotation, rows) <= 1e-3


def test_half_precision_is_near(monkeypatch):
    rows, target = unit_rows(random_map(0)), unit_rows(random_map(1))
    exact = self_similarity_distance(rows, target)
    assert torch.allclose(self_similarity_distance(rows, target, precision=torch.bfloat16), exact, rtol=1e-2)


def test_the_table_is_never_held(monkeypatch):
    monkeypatch.setattr(self_similarity, "_TILE", 2**12)
    feature = torch.randn(4, 32, 32)
    rows = unit_rows(feature)
    with PeakMemory() as memory:
        self_similarity_distance(rows, rows)
    assert memory.peak < 4 * 1024**2 / 8  # an eighth of the table in fp32
