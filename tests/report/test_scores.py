"""Best, ranks, curves, the parallel plot, and which part of a long clip is shown."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kinopaint.report.parallel import HEIGHT, TOP, parallel_plot
from kinopaint.report.parts import Part, choose_parts
from kinopaint.report.report import display_names
from kinopaint.report.scores import POINTS, curves, mean_ranks, ranks, rows, written


@pytest.mark.parametrize(
    ("better", "expected"), [("higher", [3, None, 1, 1]), ("lower", [1, None, 2, 2]), ("near 1", [3, None, 1, 1])]
)
def test_ranks_follow_the_direction_and_share_places(better, expected):
    assert ranks([0.2, None, 0.9, 0.9], better) == expected


def test_a_row_marks_the_best_of_several_only():
    made = {row.name: row for row in rows([{"psnr": 20.0, "e_warp": None}, {"psnr": 30.0, "e_warp": None}], [], [])}
    assert [made["psnr"].best(place) for place in (0, 1)] == [False, True]
    assert [made["e_warp"].best(place) for place in (0, 1)] == [False, False]
    assert not rows([{"psnr": 20.0}], [], [])[0].best(0)
    assert mean_ranks(list(made.values()), 2) == [2, 1]


def test_an_undefined_number_is_a_dash_with_its_reason():
    (row,) = rows([{"pro_con": None}], [{"pro_con": 0.25}, {}], [{"pro_con": "no prompt was given"}])
    assert (row.cells, row.others, row.why) == (["–"], ["0.25", ""], "no prompt was given")
    assert written(3e-9) == "0"


def test_a_long_curve_keeps_its_worst_values():
    values = [0.9] * (3 * POINTS)
    values[1234] = 0.1
    (about,) = curves([{"ssim": values}], {"ssim": values})
    assert len(about["series"][0]) == POINTS
    assert min(about["series"][0]) == 0.1
    assert about["every"] == 3
    assert about["source"] is None  # the source compared with itself says nothing


def test_a_plot_has_the_best_at_the_top_and_leaves_out_what_does_not_differ():
    plot = parallel_plot(
        [("psnr", "higher", [20.0, 30.0]), ("ssim", "higher", [1.0, 1.0]), ("e_warp", "lower", [1.0, None])]
    )
    assert [axis.name for axis in plot.axes] == ["psnr"]
    assert (plot.axes[0].best, plot.axes[0].worst) == ("30", "20")
    heights = [float(pieces[0].split(",")[1]) for pieces in plot.lines]
    assert heights == [TOP + HEIGHT, TOP]


def test_a_short_clip_is_shown_whole():
    assert choose_parts([0.0, 0.5, 1.0], [2]) == [Part(0, 2)]
    assert choose_parts([0.0], []) == [Part(0, 0)]


def test_a_long_clip_is_shown_around_its_worst_frames():
    times = [index / 2 for index in range(1000)]  # 500 s
    parts = choose_parts(times, [600, 605, 300], longest=40)
    shown = [frame for part in parts for frame in range(part.first, part.last + 1)]
    assert len(shown) <= 40 * 2
    assert {0, 300, 600, 605} <= set(shown)
    assert shown == sorted(set(shown))
    assert all(a.last + 1 < b.first for a, b in itertools.pairwise(parts))


def test_names_tell_results_apart():
    assert display_names([Path("a/x.mp4"), Path("b/y.mp4")]) == ["x.mp4", "y.mp4"]
    assert display_names([Path("a/x.mp4"), Path("b/x.mp4")]) == ["a/x.mp4", "b/x.mp4"]
    assert display_names([Path("a\n.mp4")]) == ["a\\n.mp4"]
