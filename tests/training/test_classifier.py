"""The judge learns from folders of pictures, and says so where there are none."""

import cv2
import numpy as np
import pytest
from training.classifier import Classifier


def striped(upright, rng):
    waves = np.sin(np.arange(80) * 2 * np.pi / 8 + rng.uniform(0, 6))
    grey = np.broadcast_to(waves if upright else waves[:, None], (80, 80))
    return np.clip(128 + 80 * grey[..., None] + rng.normal(0, 10, (80, 80, 3)), 0, 255).astype(np.uint8)


def test_pictures_are_named_by_the_folder_that_they_look_like(tmp_path):
    rng = np.random.default_rng(0)
    for name, upright in (("upright", True), ("level", False)):
        (tmp_path / name).mkdir()
        for i in range(24):
            cv2.imwrite(str(tmp_path / name / f"{i}.jpg"), striped(upright, rng))
    judge = Classifier.of_shards([tmp_path / "upright", tmp_path / "level"], 24, 48, {"3"}, passes=12)
    unseen = [striped(True, rng)[:48, :48] for _ in range(8)]
    assert judge.share(unseen, 0) == 1
    assert judge.share(unseen, 1) == 0
    scores = judge.scores(unseen)
    assert scores.shape == (8, 2)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)


def test_a_part_of_a_folder_is_drawn_from_all_its_names(tmp_path):
    rng = np.random.default_rng(0)
    for name, upright in (("upright", True), ("level", False)):
        (tmp_path / name).mkdir()
        for i in range(24):  # what comes first by the alphabet tells nothing
            cv2.imwrite(str(tmp_path / name / f"a{i}.jpg"), rng.integers(0, 256, (80, 80, 3)).astype(np.uint8))
            cv2.imwrite(str(tmp_path / name / f"z{i}.jpg"), striped(upright, rng))
    judge = Classifier.of_shards([tmp_path / "upright", tmp_path / "level"], 24, 48, set(), passes=20)
    assert judge.share([striped(True, rng)[:48, :48] for _ in range(8)], 0) == 1


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        Classifier.of_shards([tmp_path / "nothing-here"], 4, 48, set())
