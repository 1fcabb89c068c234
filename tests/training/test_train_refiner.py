"""The refiner's recipe on two short sequences: the data's geometry, and a run that resumes and writes what loads."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training import train_refiner as recipe

from kinopaint.models.refiner import RefinementNet


def test_the_camera_moves_over_the_photograph_without_a_jump():
    image = np.random.default_rng(0).random((96, 128, 3)).astype(np.float32)
    image = np.repeat(np.repeat(image[::8, ::8], 8, 0), 8, 1)
    frames = recipe.photo_sequence(image, np.random.default_rng(2))
    assert frames.shape == (recipe.FRAMES, 96, 128, 3)
    source = torch.from_numpy(recipe.reduced(frames)).permute(0, 3, 1, 2).float()[None] / 255
    flow, seen = recipe.motion(source)
    assert seen.shape == (1, recipe.FRAMES - 1, 1, 192, 256)
    assert flow.abs().mean() > 0.5
    before = recipe.temporal_loss(source[:, 1], source[:, 0], torch.zeros_like(flow[:, 0]), torch.ones(1, 1, 192, 256))
    after = recipe.temporal_loss(source[:, 1], source[:, 0], flow[:, 0], torch.ones(1, 1, 192, 256))
    assert after < 0.7 * before


def test_flicker_changes_each_frame_by_itself():
    still = torch.rand(1, 3, 16, 16).expand(4, -1, -1, -1)
    shaken = recipe.flickering(still, np.random.default_rng(0))
    means = shaken.mean((1, 2, 3))
    assert means.std() > 0.005
    assert shaken.min() >= 0
    assert shaken.max() <= 1


def test_it_learns_resumes_and_writes_weights_that_load(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    folder = tmp_path / "out" / "sequences"
    folder.mkdir(parents=True)
    for name in ("00000-train", "00001-held"):
        still = np.repeat(rng.integers(40, 216, (1, 32, 40, 3)), recipe.FRAMES, 0)
        painted = (still + rng.integers(-25, 26, (recipe.FRAMES, 1, 1, 3))).astype(np.uint8)
        frames = {"source": torch.from_numpy(still.astype(np.uint8)), "painted": torch.from_numpy(painted)}
        save_file(frames, folder / f"{name}.safetensors")
    tower = SimpleNamespace(tokens=lambda frames: torch.nn.functional.unfold(frames, 8, stride=8).transpose(1, 2))
    monkeypatch.setattr(recipe.kinopaint, "load_model", lambda *a, **k: SimpleNamespace(image_encoder=tower))
    base = ["-", "--out", str(tmp_path / "out"), "--paint-minutes", "0", "--width", "4", "--blocks", "1", "--batch",
            "1", "--size", "32", "--report", "2", "--threads", "1"]  # fmt: skip
    monkeypatch.setattr(recipe, "pictures", lambda data: [])
    monkeypatch.setattr(recipe, "jobs", lambda known, seed: iter(()))
    steps = []
    for minutes in ("0.02", "0.04"):
        monkeypatch.setattr(sys, "argv", [*base, "--minutes", minutes])
        recipe.main()
        rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
        steps.append(rows[-1]["step"])
        assert {"loss", "time", "content", "colour", "edges", "flicker", "sharpness"} <= set(rows[-1])
    assert steps[1] > steps[0]
    about = json.loads((tmp_path / "out" / "refiner" / "config.json").read_text())
    net = RefinementNet(**about)
    from safetensors.torch import load_file

    net.load_state_dict(
        {k: v.float() for k, v in load_file(tmp_path / "out" / "refiner" / "model.safetensors").items()}
    )


def test_without_a_tower_it_says_what_to_run_first(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "paint_sequences", lambda args: None)
    monkeypatch.setattr(recipe.kinopaint, "load_model", lambda *a, **k: SimpleNamespace(image_encoder=None))
    monkeypatch.setattr(sys, "argv", ["-", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="train_image_tower first"):
        recipe.main()
