"""The calibration: its grid is legal and small, a run that stops goes on, and the report compares like with like."""

import argparse
import json

import cv2
import numpy as np
import pytest
from benchmarks import calibrate

from kinopaint import stylize_frames
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models import load_model

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
        frames=2, long=3, steps=1, width=64, minutes=1e-9, report=False,
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
    assert "| identity |" in table
    assert (tmp_path / "ablation.png").stat().st_size > 1000
    assert set(json.loads((tmp_path / "recommended.json").read_text())) <= {"temporal", "temporal_strength"}


def test_backends_share_one_painting_and_differ_as_a_run_of_their_own_does(model_folder):
    parts = load_model(model_folder, device="cpu", dtype="float32")
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (48, 96, 3)).astype(np.uint8), (0, 0), 2)
    source = [np.ascontiguousarray(wide[:, 2 * i : 2 * i + 64]) for i in range(3)]
    fields, known = {"num_inference_steps": 1, "temporal": "flow_blend", "temporal_strength": 0.8}, {}
    plain, _ = calibrate.restyled(source, "oil", {**fields, "temporal": "identity"}, parts, known)
    blended, _ = calibrate.restyled(source, "oil", fields, parts, known)
    assert len(known) == 1
    whole = list(stylize_frames(source, "oil", method=StyleAVideo(**fields), parts=parts))
    assert np.array_equal(blended[0], plain[0])
    assert not np.array_equal(blended[2], plain[2])
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(blended, whole, strict=True)) <= 1


def of(group, setting, value, **scores):
    """Rows of a setting over pieces: metrics are the baseline's times a factor, by piece."""
    empty = dict.fromkeys(calibrate.COLUMNS, "")
    return [
        {**empty, "group": group, "setting": setting, "fields": value, "clip": str(n), "prompt": "p"}
        | {name: str(factor) for name, factor in zip(scores, each, strict=True)}
        for n, each in enumerate(zip(*scores.values(), strict=True))
    ]


def test_the_plain_mixture_is_the_best_that_keeps_the_words():
    plain = [{"pro_con": p, "content": c} for p, c in ((0.1, 0.8), (0.2, 0.4), (0.15, 0.3))]
    assert calibrate.plain_mixture(plain, 0.05, "content") == pytest.approx([1, 0, 0])
    assert calibrate.plain_mixture(plain, 0.15, "content") == pytest.approx([0.5, 0.5, 0])
    assert calibrate.plain_mixture(plain, 0.2, "content") == pytest.approx([0, 1, 0])
    assert calibrate.plain_mixture(plain, 0.21, "content") is None


def test_a_part_helps_if_content_is_more_than_plain_scales_give_at_the_same_words():
    def setting(group, name, prompt, content, spread=(0.01, -0.01, 0.01, -0.01), place=0.5, apart=0.0):
        own = [content + each for each in spread]
        places = [place + each for each in (apart, -apart, apart, -apart)]
        return of(group, name, "{}", pro_con=[prompt] * 4, content=own, edge_f1=places)

    rows = [*setting(*calibrate.BASELINE, 0.2, 0.5), *setting("scales", "faithful", 0.1, 0.7)]
    rows += [*setting("clip", "good", 0.15, 0.65), *setting("clip", "along the curve", 0.15, 0.6)]
    rows += [*setting("clip", "luck", 0.15, 0.65, spread=(0.4, -0.2, 0.0, -0.2)), *setting("clip", "worse", 0.2, 0.4)]
    rows += [*setting("clip", "contours", 0.2, 0.5, place=0.6), *setting("clip", "all style", 0.3, 0.4)]
    rows += setting("clip", "fools the tower", 0.15, 0.75, place=0.4, apart=0.01)
    table, best = calibrate.worth(rows, "clip")
    assert best == "contours"
    verdicts = {line.split(" | ")[0].strip("| "): line.split(" | ")[-1].strip(" |") for line in table[2:]}
    assert {name for name, verdict in verdicts.items() if verdict == "yes"} == {"good", "contours"}
    assert "| good | 4 | -0.0500 | +0.1500 | +0.0500 ± 0.0000 |" in table[2]


def test_a_backend_is_taken_if_it_is_steadier_and_neither_smears_nor_forgets():
    def backend(name, excess, sharp, prompt=0.2, content=0.5):
        columns = ("e_warp_excess", "l_temporal", "sharpness_ratio", "pro_con", "content")
        values = (excess, 0.01, sharp, prompt, content)
        return of("temporal", name, "{}", **{n: [v] * 2 for n, v in zip(columns, values, strict=True)})

    rows = [*backend("identity", 0.1, 1.0), *backend("good", 0.06, 0.96), *backend("smear", 0.01, 0.5)]
    rows += [*backend("little", 0.07, 1.0), *backend("forgets", 0.02, 1.0, prompt=0.19)]
    rows += backend("changes", 0.02, 1.0, content=0.49)
    assert calibrate.steadiness(rows)[1] == "good"
    assert calibrate.steadiness(rows[:2])[1] is None


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
