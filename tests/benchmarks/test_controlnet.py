"""Edge F1 says where contours agree, and the table sets with and without side by side."""

import argparse

import numpy as np
import pytest
from benchmarks import controlnet
from benchmarks.edges import edge_f1
from tests.checkpoints import write_controlnet


@pytest.fixture
def disc():
    def at(x, background=60, colour=200):
        rows, columns = np.mgrid[:96, :96]
        inside = (rows - 48) ** 2 + (columns - x) ** 2 < 24**2
        return np.where(inside[..., None], colour, background).astype(np.uint8).repeat(3, -1)

    return at


def test_edges_agree_with_themselves_whatever_the_colours(disc):
    assert edge_f1(disc(48), disc(48)) == 1
    assert edge_f1(disc(48), disc(48, background=220, colour=30)) == 1
    assert edge_f1(disc(48), disc(49)) > 0.9


def test_edges_elsewhere_or_nowhere_do_not_agree(disc):
    assert edge_f1(disc(48), disc(70)) < 0.3
    assert edge_f1(disc(48), np.full((96, 96, 3), 90, np.uint8)) == 0


def test_more_edges_than_there_were_cost_precision(disc):
    grid = np.zeros((96, 96, 3), np.uint8)
    grid[:, ::12] = grid[:, 1::12] = 255
    crowded = np.maximum(disc(48), grid)
    assert edge_f1(disc(48), crowded) < 0.8


def test_the_table_compares_the_same_pictures(model_folder, tmp_path, monkeypatch, disc):
    control = write_controlnet(model_folder, tmp_path / "lines", seed=0)
    monkeypatch.setattr(controlnet, "pieces", lambda *a: iter([("a.mp4", [disc(40)[:64, :64].copy()], [0.0])]))
    monkeypatch.setattr(controlnet, "PROMPTS", ("oil",))
    args = argparse.Namespace(
        model=str(model_folder), controlnet=f"lines={control}", dtype="float32", steps=1, width=64, data=tmp_path
    )
    rows = controlnet.run(args)
    assert [(row["setting"], row["controlnet"]) for row in rows][:2] == [
        ("words alone", "without"),
        ("words alone", "with"),
    ]
    assert len(rows) == 6
    lines = controlnet.table([
        {"setting": "s", "controlnet": which, "edge_f1": f1, "pro_con": 0.2, "content": None}
        for which, f1 in (("without", 0.2), ("with", 0.3), ("without", 0.4), ("with", 0.6))
    ])  # fmt: skip
    assert "| s | 2 | 0.300 | 0.450 | +50 % | 0.200 → 0.200 |" in lines[2]
