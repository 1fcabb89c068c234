"""kinopaint compare, and the pages of evaluate and compare."""

from __future__ import annotations

import json

import pytest
from tests.clips import write_clip
from tests.test_evaluation import rewrite


@pytest.fixture(scope="module")
def results(clip, tmp_path_factory):
    """A good and a bad result of the clip: a little darker, and a negative."""
    folder = tmp_path_factory.mktemp("results")
    good = rewrite(clip, folder / "good.mkv", lambda picture, index: picture - picture // 8)
    bad = rewrite(clip, folder / "bad.mkv", lambda picture, index: 255 - picture)
    return [good, bad]


def test_table_json_and_page(kinopaint, clip, results, tmp_path):
    numbers, page = tmp_path / "numbers.json", tmp_path / "page.html"
    ran = kinopaint(
        "compare", clip, *results, "--json", numbers, "--report", page, "--references", "--progress", "none"
    )
    assert ran.code == 0, ran.err
    good, bad = (
        next(line for line in ran.out.splitlines() if line.strip().startswith(name)) for name in ("good", "bad")
    )
    assert good.count("*") > bad.count("*")
    assert "psnr ↑  1. good.mkv, 2. bad.mkv" in ran.out
    assert "smeared" in ran.out
    found = json.loads(numbers.read_text())
    assert [one["metrics"]["psnr"] > 20 for one in found] == [True, False]
    assert "Ranking" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numbers.json", "page.html"]


def test_json_alone_goes_to_standard_output(kinopaint, clip, results):
    ran = kinopaint("compare", clip, *results, "--json")
    assert [one["frames"] for one in json.loads(ran.out)] == [6, 6]


def test_evaluate_makes_a_page_of_the_chosen_part(kinopaint, clip, tmp_path):
    part = write_clip(tmp_path / "part.mp4", frames=3)
    page = tmp_path / "page.html"
    ran = kinopaint("evaluate", clip, part, "--end", "0.25", "--report", page, "--progress", "none")
    assert ran.code == 0, ran.err
    assert "3 frames" in page.read_text()
    assert "Ranking" not in page.read_text()


def test_files_are_checked_before_any_work(kinopaint, clip, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    for command in ("evaluate", "compare"):
        ran = kinopaint(command, clip, clip, "--report", page)
        assert (ran.code, ran.out) == (4, "")
        assert "KP-OUTPUT-EXISTS" in ran.err
    assert page.read_text() == "mine"
    assert kinopaint("compare", clip).code == 2
    assert kinopaint("compare", clip, clip, "--json", clip, "--overwrite").code == 2
