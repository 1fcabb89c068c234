"""The renderings that the embedded model learns from are pure functions of picture, medium and seed."""

import cv2
import numpy as np
import pytest
from training import words
from training.renderings import MEDIA, render
from training.renderings.blocks import TWO_CELLS, Noise, diagonal, strokes_along, triangles


@pytest.fixture(scope="module")
def photograph():
    table = np.random.default_rng(0).random((12, 16, 3), np.float32)
    return np.clip(cv2.resize(table, (128, 96), interpolation=cv2.INTER_CUBIC), 0, 1)


@pytest.fixture(scope="module")
def paintings():
    rng = np.random.default_rng(1)
    return {
        folder: [rng.random((40, 50, 3), np.float32)]
        for folder in ("ukiyo-e", "impressionism", "van-gogh", "expressionism", "cubism")
    }


def test_every_medium_of_the_lexicon_has_a_rendering():
    assert set(MEDIA) == set(words.MEDIA)


@pytest.mark.parametrize("medium", MEDIA)
def test_same_arguments_give_the_same_pixels(medium, photograph, paintings):
    first = render(photograph, medium, 7, paintings)
    assert first.shape == photograph.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.array_equal(first, render(photograph, medium, 7, paintings))
    assert np.abs(first - photograph).mean() > 0.02


def test_noise_stays_on_the_canvas_when_the_picture_grows(photograph, paintings):
    assert np.array_equal(Noise(3, (96, 128)).white("paper"), Noise(3, (200, 300)).white("paper")[:96, :128])


@pytest.mark.parametrize("size", [9, 14, 95])
def test_triangles_fill_the_picture_when_the_last_cells_hold_no_pixel(photograph, size):
    facets, _, _ = triangles(photograph, size)
    assert np.isfinite(facets).all()
    assert np.abs(facets.mean((0, 1)) - photograph.mean((0, 1))).max() < 0.02


def test_triangles_of_an_even_picture_stand_and_hang_by_turns():
    _, _, hanging = triangles(np.full((64, 80, 3), 0.5, np.float32), TWO_CELLS)
    y, x = np.mgrid[:64, :80]
    row, down = y // TWO_CELLS, y % TWO_CELLS
    off = np.abs((x + TWO_CELLS * (row % 2)) % (2 * TWO_CELLS) - TWO_CELLS)  # every other row is half a step aside
    beside = (np.abs(off + down - TWO_CELLS) > 2) & (down > 1)  # borders belong to whichever was drawn last
    assert np.array_equal(hanging[beside], (off + down < TWO_CELLS)[beside])


@pytest.mark.parametrize(("quarter", "step"), [(0, (0, 1)), (1, (1, 1)), (2, (1, 0)), (3, (1, -1))])
def test_strokes_run_along_the_angle_and_break_off(quarter, step):
    angle = np.full((96, 96), quarter * np.pi / 4, np.float32)
    waves = strokes_along(angle)

    def moved(times):
        return np.roll(waves, (times * step[0], times * step[1]), (0, 1))

    # half a wave along is the opposite, a whole one is the same; the other three directions leave a trace
    half = 16 if 0 in step else 8
    assert np.abs(waves).max() > 0.9
    assert np.abs(moved(half) + waves).max() < 0.05
    assert np.abs(moved(2 * half) - waves).max() < 0.05
    aside = np.roll(waves, (8 * step[1], -8 * step[0]), (0, 1))  # across, to the next row or the one after it
    assert np.abs(aside + waves if 0 in step else aside - waves).max() < 0.05
    np.testing.assert_allclose(waves[:, 32:], waves[:, :-32], atol=1e-4)  # four cells
    np.testing.assert_allclose(waves[32:], waves[:-32], atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_diagonal_strokes_repeat_with_two_cells_and_change_sign_from_cell_to_cell(sign):
    waves = diagonal((64, 64), sign)
    np.testing.assert_allclose(waves[:, TWO_CELLS:], waves[:, :-TWO_CELLS], atol=1e-4)
    np.testing.assert_allclose(waves[TWO_CELLS // 2 :], -waves[: -TWO_CELLS // 2], atol=1e-4)
    np.testing.assert_allclose(
        waves[1:, :-1] if sign == 1 else waves[:-1, :-1], waves[:-1, 1:] if sign == 1 else waves[1:, 1:], atol=1e-4
    )
    assert abs(waves.std() - 1) < 0.01


def test_typical_parameters_do_not_follow_the_seed(photograph, paintings, monkeypatch):
    monkeypatch.setitem(MEDIA, "dimmed", lambda source, draw, paintings: source.rgb * draw.uniform(0.5, 0.9))
    by_chance, typical = (
        [render(photograph, "dimmed", seed, paintings, typical=typical) for seed in range(4)]
        for typical in (False, True)
    )
    assert all(np.array_equal(typical[0], other) for other in typical)
    assert not all(np.array_equal(by_chance[0], other) for other in by_chance)
