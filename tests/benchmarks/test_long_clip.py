"""The sheets of a long clip: a column for each second, and a run that is done is not made again."""

import argparse

import numpy as np
from benchmarks import long_clip
from benchmarks.shares import make_clip


def test_a_column_for_each_full_second_from_the_first_frame_on():
    shade = [np.full((2, 2, 3), 10 * n, np.uint8) for n in range(6)]
    source = ((5.0 + 0.5 * n, picture) for n, picture in enumerate(shade))
    found = list(long_clip.columns(source, iter(shade[:1] * 6)))
    assert [column[0][1] for column in found] == ["source, 5.00 s", "source, 6.00 s", "source, 7.00 s"]
    assert [int(column[0][0][0, 0, 0]) for column in found] == [0, 20, 40]
    assert {(int(column[2][0].max()), int(column[3][0].max())) for column in found} == {(40, 0)}


def test_a_preset_is_run_once_and_its_sheet_drawn(model_folder, tmp_path, monkeypatch):
    make_clip(tmp_path / "clip.mp4", 26, (64, 64))
    args = argparse.Namespace(
        out=tmp_path, prompt="oil", start=0.0, every=5, work_size="64x64", model=str(model_folder)
    )
    row = long_clip.restyled(args, tmp_path / "clip.mp4", "live", 2.0)
    assert row["frames"] == 6
    assert (tmp_path / "live.png").stat().st_size > 1000
    assert long_clip.restyled(args, tmp_path / "clip.mp4", "live", 2.0) is None
