"""Self-similarity of feature maps, tile by tile."""

import pytest
import torch

from kinopaint.engine.load import PeakMemory
from kinopaint.features import self_similarity
from kinopaint.features.self_similarity import self_similarity_slope, unit_rows


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


def slope_of_the_written_out(rows, target, norm):
    rows = rows.detach().requires_grad_()
    written_out(rows, target, norm).backward()
    return rows.grad


@pytest.mark.parametrize("tile", [2**21, 35 * 8, 1])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_slope_is_that_of_the_written_out_table(norm, tile, monkeypatch):
    monkeypatch.setattr(self_similarity, "_TILE", tile)
    rows, target = unit_rows(random_map(0)), unit_rows(random_map(1))
    found, expected = self_similarity_slope(rows, target, norm=norm), slope_of_the_written_out(rows, target, norm)
    # Along the rows themselves both are made of rounding: a row's similarity with itself is 1 whatever it is.
    found, expected = (slope - (slope * rows).sum(1, keepdim=True) * rows for slope in (found, expected))
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())


def test_of_the_target_itself_the_slope_is_zero():
    rows = unit_rows(random_map(0))
    assert self_similarity_slope(rows, rows.clone(), norm="l2").abs().max() <= 1e-5


def test_the_table_is_blind_to_rotations_and_lengths_of_the_cells():
    rows = unit_rows(random_map(0))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4))).Q
    for other in (unit_rows(2 * random_map(0)), rows @ rotation):
        assert self_similarity_slope(other, rows, norm="l2").abs().max() <= 1e-4


def test_half_precision_is_near():
    rows, target = unit_rows(random_map(0)), unit_rows(random_map(1))
    exact = self_similarity_slope(rows, target, norm="l2")
    found = self_similarity_slope(rows, target, norm="l2", precision=torch.bfloat16)
    assert torch.allclose(found, exact, atol=0.05 * exact.abs().max())


def test_the_table_is_never_held(monkeypatch):
    monkeypatch.setattr(self_similarity, "_TILE", 2**12)
    rows = unit_rows(torch.randn(4, 32, 32))
    with PeakMemory() as memory:
        self_similarity_slope(rows, rows)
    assert memory.peak < 4 * 1024**2 / 8  # an eighth of the table in fp32
