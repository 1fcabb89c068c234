"""The image tower's recipe on a handful of pictures: it runs, resumes, and writes what the package loads."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from training import train_image_tower as recipe
from training.render_shards import slug
from training.words import TRAINED


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    for look in ("photo", slug(TRAINED[0]), slug(TRAINED[1])):
        (tmp_path / "shards" / look).mkdir(parents=True)
        for name in "abcd":
            cv2.imwrite(str(tmp_path / "shards" / look / f"{name}.jpg"), rng.integers(0, 256, (96, 128, 3), np.uint8))
    return tmp_path / "shards"


def test_both_looks_show_the_same_part(shards):
    pairs = recipe.Pairs(shards, None, {"d"}, 0)
    assert pairs.names == ["a", "b", "c"]
    image = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    draws = np.array([0.3, 0.6, 0.2, 0.9, 0.1])
    assert np.array_equal(recipe.crop(image, draws), recipe.crop(image.copy(), draws))
    assert not np.array_equal(recipe.crop(image, draws), recipe.crop(image, draws + 0.05))
    pixels, labels = pairs.batch(4)
    assert pixels.shape == (2, 4, 3, 224, 224)
    assert (labels[0] != labels[1]).all()


def test_matching_is_lowest_where_rows_agree():
    rows = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    assert recipe.match(rows, rows, 20.0) < 0.01
    assert recipe.match(rows, rows.roll(1, 0), 20.0) > 3


def test_dropped_tokens_are_the_ones_not_kept():
    config = {**recipe.CONFIG, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    model = recipe.CLIPVisionModelWithProjection(recipe.CLIPVisionConfig(**config)).eval()
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        embed, tokens = recipe.forward(model, pixels, None)
        stock = model(pixel_values=pixels)
        assert torch.allclose(embed, torch.nn.functional.normalize(stock.image_embeds, dim=-1), atol=1e-5)
        assert torch.allclose(tokens, stock.last_hidden_state[:, 1:], atol=1e-5)
        everything = torch.randperm(196)
        shuffled, _ = recipe.forward(model, pixels, everything)
        assert torch.allclose(shuffled, embed, atol=1e-4)
        assert recipe.forward(model, pixels, everything[:50])[1].shape == (2, 50, 16)


def test_a_few_seconds_of_training_write_a_tower_that_loads_and_a_second_call_goes_on(shards, tmp_path, monkeypatch):
    from kinopaint.models import mini_path
    from kinopaint.models.folder import FolderCheckpoint
    from kinopaint.models.parts import PartReader

    monkeypatch.setattr(
        recipe, "pictures", lambda data: [type("P", (), {"name": n, "held_out": n == "d"}) for n in "ad"]
    )
    monkeypatch.setattr(recipe, "CONFIG", {**recipe.CONFIG, "hidden_size": 32, "intermediate_size": 32})
    base = ["-", "--shards", str(shards), "--model", str(mini_path()), "--out", str(tmp_path / "out"), "--batch", "2",
            "--layers", "1", "--report", "2", "--captions", "2", "--threads", "1"]  # fmt: skip
    steps = []
    for minutes in ("0.02", "0.04"):
        monkeypatch.setattr(sys, "argv", [*base, "--minutes", minutes])
        recipe.main()
        rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
        steps.append(rows[-1]["step"])
        assert {"loss", "words", "looks", "places", "medium", "instance", "place"} <= set(rows[-1])
    assert steps[1] > steps[0]
    model = tmp_path / "model"
    model.mkdir()
    for part in mini_path().iterdir():
        (model / part.name).symlink_to(tmp_path / "out/image_encoder" if part.name == "image_encoder" else part)
    if not (model / "image_encoder").exists():
        (model / "image_encoder").symlink_to(tmp_path / "out/image_encoder")
    tower = PartReader(FolderCheckpoint(model), torch.device("cpu"), torch.float32, download=False).image_encoder()
    assert tower.tokens(torch.zeros(1, 3, 40, 64)).shape == (1, 197, 32)
