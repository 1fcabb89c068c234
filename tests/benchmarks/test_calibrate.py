"""The calibration: its grid is legal and small, a run that stops goes on, and the report compares like with like."""

import argparse

import cv2
import numpy as np
import pytest
from benchmarks import calibrate

from kinopaint.methods.style_a_video import StyleAVideo

BASE = {"text_branch": "joint", "s_image": 1.3, "s_text": 2.0, "num_inference_steps": 1}


def test_the_grid_is_legal_small_and_names_each_setting_once():
    grid = calibrate.settings(BASE, tower=True, refiner=True)
    assert len(grid) <= 60
    for setting in grid:
        StyleAVideo(**setting.fields)
    names = [(setting.group, setting.name) for setting in grid]
    assert len(set(names)) == len(names)
    groups = {group: sum(g == group for g, _ in names) for group, _ in names}
    assert groups["parts"] == 9
    assert groups["mask"] >= 12
    assert groups["clip"] >= 12
    assert groups["temporal"] == 5
    poor = calibrate.settings(BASE, tower=False, refiner=False)
    assert not any(setting.fields.get("clip_strength") or setting.fields["temporal"] == "net" for setting in poor)


def test_a_stopped_run_goes_on_and_the_report_is_written(model_folder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib, of the extra train")
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (48, 96, 3)).astype(np.uint8), (0, 0), 2)
    pictures = [np.ascontiguousarray(wide[:, 2 * i : 2 * i + 64]) for i in range(3)]
    monkeypatch.setattr(calibrate, "pieces", lambda *a: iter([("a.mp4", pictures, [0.0, 0.1, 0.2])]))
    monkeypatch.setattr(calibrate, "PROMPTS", ("oil", "a oil"))
    args = argparse.Namespace(
        model=str(model_folder), dtype="float32", clip=None, out=tmp_path, groups=["temporal"], data=tmp_path,
        frames=3, steps=1, width=64, minutes=1e-9, report=False,
    )  # fmt: skip
    calibrate.run(args)
    assert calibrate.read(tmp_path / "results.csv") == []
    args.minutes = 10
    calibrate.run(args)
    rows = calibrate.read(tmp_path / "results.csv")
    assert len(rows) == 4 * 2
    calibrate.run(args)
    assert calibrate.read(tmp_path / "results.csv") == rows
    calibrate.report(args)
    table = (tmp_path / "table.md").read_text()
    assert "flow_blend 0.8" in table
    assert (tmp_path / "temporal.png").stat().st_size > 1000


def test_means_are_taken_over_what_all_settings_of_a_group_have():
    empty = dict.fromkeys(calibrate.COLUMNS, "")
    rows = [
        {**empty, "group": "mask", "setting": name, "clip": clip, "prompt": "p", "content": str(value)}
        for name, clip, value in [("a", "one", 0.2), ("a", "two", 0.9), ("b", "one", 0.4)]
    ]
    found = calibrate.means(rows)
    assert found["mask", "a"]["content"] == pytest.approx(0.2)
    assert found["mask", "b"] == {"pieces": 1, "content": pytest.approx(0.4)}


def test_the_rule_takes_the_best_words_among_the_faithful_half():
    rows = {"wild": (0.9, 0.1), "good": (0.5, 0.6), "dull": (0.2, 0.8)}
    scores = {name: {"pro_con": prompt, "content": content} for name, (prompt, content) in rows.items()}
    assert calibrate.chosen(scores) == "good"
    assert calibrate.chosen({"none": {}}) is None
