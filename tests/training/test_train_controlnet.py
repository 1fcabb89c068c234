"""The ControlNet's recipe on a tiny model: it begins by changing nothing, learns, resumes, and writes what loads."""

import itertools
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from training import train_controlnet as recipe
from training.render_shards import slug
from training.words import TRAINED

from kinopaint.models import load_model


@pytest.fixture
def shards(tmp_path):
    """Two photographs of which one half is dark, and their latents; the rendering's latents are of other numbers."""
    (tmp_path / "shards/photo").mkdir(parents=True)
    latents = {"photo": {}, slug(TRAINED[0]): {}}
    for number, name in enumerate("ab"):
        image = np.full((288, 320, 3), 200, np.uint8)
        image[:, : 128 + 16 * number] = 30
        cv2.imwrite(str(tmp_path / f"shards/photo/{name}.jpg"), image)
        for which, store in enumerate(latents.values()):
            store[name] = torch.full((4, 36, 40), float(which)).half()
    torch.save(latents, tmp_path / "latents.pt")
    return tmp_path


def test_it_begins_as_the_encoder_and_changes_nothing(model_folder):
    unet = UNet2DConditionModel.from_pretrained(model_folder / "unet")
    net = recipe.beside(unet, 4)
    latents, time, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 16, 32)
    down, middle = net(latents, time, text, torch.rand(2, 3, 64, 64), return_dict=False)
    assert not any(part.any() for part in (*down, middle))
    assert torch.equal(net.conv_in.weight, unet.conv_in.weight[:, :4])
    assert torch.equal(net.down_blocks[1].resnets[0].conv1.weight, unet.down_blocks[1].resnets[0].conv1.weight)
    sample = torch.cat([latents, latents], 1)
    added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    assert torch.equal(unet(sample, time, text, **added).sample, unet(sample, time, text).sample)


def test_lines_and_latents_of_a_crop_show_the_same_place(model_folder, shards):
    latents = torch.load(shards / "latents.pt", weights_only=True)
    for store in latents.values():  # numbers that tell the column
        for name in store:
            store[name] = torch.arange(40.0).expand(4, 36, 40).half()
    pairs = recipe.trained_styles(latents)
    words = recipe.Words(model_folder, list(pairs), 8, 0)
    data = recipe.Crops(latents, shards / "shards/photo", words, pairs, withheld=0.0, seed=0, step=0)
    pictures, source, target, text = data.lined(12, 4, 32)
    assert (pictures.shape, source.shape, text.shape[0]) == ((12, 3, 32, 256), (12, 4, 4, 32), 12)
    assert torch.equal(source, target)
    for picture, cells in zip(pictures, source, strict=True):
        column = picture[0].mean(0).argmax().item() / 8 + cells[0, 0, 0].item()
        assert round(column) in (16, 18)
    data.withheld = 1.0
    assert not data.lined(4, 8, 8)[1].any()


def test_it_learns_resumes_and_writes_weights_that_load(model_folder, shards, monkeypatch):
    base = ["-", "--model", str(model_folder), "--shards", str(shards / "shards"), "--threads", "1", "--captions", "8",
            "--latents", str(shards / "latents.pt"), "--out", str(shards / "out"), "--batch", "2", "--report",
            "4", "--large-from", "2"]  # fmt: skip
    seconds = itertools.count()  # a step takes one
    monkeypatch.setattr(recipe, "time", SimpleNamespace(time=lambda: next(seconds)))
    for minutes, steps in ((0.1, 6), (0.2, 12)):
        monkeypatch.setattr(sys, "argv", [*base, "--minutes", str(minutes)])
        recipe.main()
        assert torch.load(shards / "out/checkpoint.pt", weights_only=True)["step"] == steps
    rows = [json.loads(line) for line in (shards / "out/log.jsonl").read_text().splitlines()]
    assert {"step", "minutes", "loss", "loss_without"} <= set(rows[-1])
    network = ControlNetModel.from_pretrained(shards / "out/controlnet", torch_dtype=torch.float32)
    assert any(part.weight.any() for part in network.controlnet_down_blocks)
    assert not network.conv_in.weight.isnan().any()
    parts = load_model(model_folder, device="cpu", controlnet=f"lines={shards / 'out/controlnet'}")
    assert parts.added[0]["hint"] == "lines"
