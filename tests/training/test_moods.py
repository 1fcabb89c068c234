"""Moods: every one of the list is drawn, repeats with its seed and can be told from the others by its colours."""

import cv2
import numpy as np
import pytest
from training.mood_shards import chosen, grade, mood_folder
from training.renderings.blocks import to_lab
from training.renderings.moods import FIXED_PALETTE, MOODS, apply_mood
from training.words import MEDIA, held_out_pair, tells_apart, trained_pairs
from training.words import MOODS as NAMES


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Sky above, meadow below, something warm and something grey: 64x96."""
    picture = np.empty((64, 96, 3), np.float32)
    picture[:28], picture[28:] = (0.55, 0.72, 0.9), (0.25, 0.5, 0.2)
    picture[20:50, 20:40], picture[34:60, 60:84] = (0.75, 0.45, 0.3), (0.5, 0.5, 0.5)
    grain = np.random.default_rng(0).normal(0, 0.04, (64, 96, 1))
    return np.clip(picture + grain, 0, 1).astype(np.float32)


def test_the_moods_drawn_are_those_of_the_list():
    assert set(MOODS) == set(NAMES)
    assert set(MEDIA) > FIXED_PALETTE


@pytest.mark.parametrize("mood", NAMES)
def test_a_mood_repeats_and_changes_the_picture(mood, photo):
    first, second = apply_mood(photo, mood, 3), apply_mood(photo, mood, 3)
    assert first.dtype == np.float32
    assert first.shape == photo.shape
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - photo).mean() > 0.02


def test_moods_differ_from_one_another(photo):
    drawn = [apply_mood(photo, mood, 0) for mood in MOODS]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert min(gaps) > 0.03


@pytest.mark.parametrize("mood", NAMES)
def test_a_mood_hardly_moves_with_noise(mood, photo):
    noisy = np.clip(photo + np.random.default_rng(1).normal(0, 1.5 / 255, photo.shape), 0, 1).astype(np.float32)
    moved = np.abs(apply_mood(noisy, mood, 0, source=noisy) - apply_mood(photo, mood, 0)).mean()
    assert moved < 3 * np.abs(noisy - photo).mean()


def test_dark_moods_leave_the_median_readable(photo):
    for mood in ("moonlit night", "candlelight"):
        assert np.median(to_lab(apply_mood(photo * 0.4, mood, 0))[..., 0]) > 17


def test_winter_does_not_turn_a_bright_print_into_paper():
    assert to_lab(apply_mood(np.ones((32, 32, 3), np.float32), "winter", 0))[..., 0].max() < 98


def test_a_fixed_palette_keeps_part_of_itself(photo):
    plain = apply_mood(photo, "sepia", 0)
    printed = apply_mood(photo, "sepia", 0, medium="ukiyo-e woodblock print")
    assert np.abs(printed - photo).mean() < 0.85 * np.abs(plain - photo).mean()


def test_a_fifth_of_the_pairs_is_held_out_for_every_medium_and_mood():
    held = {(d, m) for d in MEDIA for m in NAMES if tells_apart(d, m) and held_out_pair(d, m)}
    trained = set(trained_pairs())
    assert not held & trained
    assert 0.17 < len(held) / len(held | trained) < 0.23
    assert {d for d, _ in held} == set(MEDIA) == {d for d, _ in trained}
    assert {m for _, m in held} == set(NAMES) == {m for _, m in trained}


def test_grading_a_shard_can_be_interrupted(tmp_path, photo):
    files = [tmp_path / f"{i}.jpg" for i in range(5)]
    for file in files:
        cv2.imwrite(str(file), (photo * 255).astype(np.uint8))
    picked = chosen(files, mood_folder("winter", None), 2)
    assert picked == chosen(files[::-1], mood_folder("winter", None), 2)
    out = tmp_path / "out.jpg"
    assert grade(picked[0], "winter", None, picked[0], out)
    written = out.read_bytes()
    assert not grade(picked[0], "winter", None, picked[0], out)
    assert out.read_bytes() == written
