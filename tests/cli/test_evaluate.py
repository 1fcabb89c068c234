"""kinopaint evaluate: table, JSON, gates with exit code 7."""

from __future__ import annotations

import json

import pytest

from kinopaint.metrics.catalogue import CATALOGUE


def test_table_and_json(kinopaint, clip, tmp_path):
    file = tmp_path / "numbers.json"
    ran = kinopaint("evaluate", clip, clip, "--prompt", "oil", "--json", file, "--references", "--progress", "none")
    assert ran.code == 0
    assert all(name in ran.out for name in (*CATALOGUE, "tem_con", "constant", "smeared"))
    numbers = json.loads(file.read_text())
    assert numbers["metrics"]["psnr"] == 100
    assert numbers["references"]["constant"]["sharpness_ratio"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]  # no part is left


def test_a_gate_that_fails_is_exit_code_7_after_table_and_json(kinopaint, clip, tmp_path):
    file = tmp_path / "numbers.json"
    ran = kinopaint("evaluate", clip, clip, "--json", file, "--fail-if", "psnr>50", "--fail-if", "ssim<0.5")
    assert ran.code == 7
    assert "KP-GATE-FAILED: psnr is 100" in ran.err
    assert "ssim" not in ran.err.splitlines()[0]
    assert "e_warp" in ran.out
    assert file.exists()
    assert kinopaint("evaluate", clip, clip, "--fail-if", "psnr<50").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--fail-if", "e_wrap>1"], 2, "e_warp"),
        (["--fail-if", "e_warp"], 2, "--fail-if"),
        (["--progress", "loud"], 2, "plain"),
        (["--short-side", "4"], 2, "at least 16"),
        (["--json", "/nowhere/numbers.json"], 4, "no such folder"),
        (["--json", "both.html", "--report", "both.html"], 2, "cannot be one file"),
        (["--clip", "/nowhere/clip"], 5, "no such folder"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(kinopaint, clip, words, code, said):
    ran = kinopaint("evaluate", clip, clip, *words)
    assert ran.code == code
    assert said in ran.err
    assert ran.out == ""


def test_an_existing_file_is_kept_unless_asked(kinopaint, clip, tmp_path):
    file = tmp_path / "numbers.json"
    file.write_text("mine")
    ran = kinopaint("evaluate", clip, clip, "--json", file)
    assert ran.code == 4
    assert file.read_text() == "mine"
    assert kinopaint("evaluate", clip, clip, "--json", file, "--overwrite").code == 0
    assert kinopaint("evaluate", clip, clip, "--json", clip, "--overwrite").code == 2  # never the clip itself
