"""Samples of the denoiser: strength words scale the way from photograph to rendering, new shards join the cache."""

import os

import cv2
import numpy as np
import pytest
import torch
from diffusers.models import AutoencoderTiny
from training.mood_shards import mood_folder
from training.render_shards import slug
from training.train_autoencoder import CHANNELS
from training.train_unet import (
    FIRST_LEVEL,
    FOUR_CELLS,
    IDENTITY_STYLE,
    STRENGTH,
    Triples,
    cache_latents,
    left_over,
    trained_styles,
    uneven_noise,
)


class _Words:
    """Text states that tell the style and the strength: the number of the style, then the share."""

    def __init__(self, styles):
        self.empty = torch.full((1, 2), -1.0, dtype=torch.bfloat16)
        self.states = {
            (style, strength): torch.tensor([[[float(i), share]]], dtype=torch.bfloat16)
            for i, style in enumerate(styles)
            for strength, share in STRENGTH.items()
        }
        self.states[IDENTITY_STYLE, ""] = torch.tensor([[[99.0, 0.0]]], dtype=torch.bfloat16)


@pytest.fixture
def samples():
    photo, drawn = torch.zeros(CHANNELS, 6, 6), torch.ones(CHANNELS, 6, 6)
    pairs = {(medium, None): [(photo, drawn)] for medium in ("oil painting", "pencil sketch")}
    pairs |= {(None, "winter"): [(photo, drawn)], ("oil painting", "winter"): [(photo, drawn)]}
    return Triples({"a": photo}, pairs, _Words(pairs), seed=0)


def test_strength_words_scale_the_target(samples):
    _source, target, text = samples.batch(400, 4, 4, identity=0.1)
    for style, share in {tuple(row) for row in text[:, 0].tolist()}:
        chosen = target[(text[:, 0] == torch.tensor([style, share])).all(-1)]
        if style >= 0:  # with words
            torch.testing.assert_close(chosen.unique(), torch.tensor([0.0 if style == 99 else share]))
    shares = {round(share, 2) for style, share in text[:, 0].tolist() if 0 <= style < 99}
    assert shares == {0.5, 1.0, 1.25}


def test_crops_start_on_the_lattice_of_the_pattern(samples):
    rendering = torch.zeros(CHANNELS, 40, 33)
    for medium, lattice in (*((m, 4) for m in FOUR_CELLS), ("oil painting", 2), (None, 2)):
        places = [samples.place(medium, rendering, 16, 16) for _ in range(300)]
        assert {y for y, _ in places} == set(range(0, 25, lattice))
        assert {x for _, x in places} == set(range(0, 18, lattice))


def test_every_kind_of_style_is_drawn_by_its_share(samples):
    _, _, text = samples.batch(2000, 2, 2, identity=0.0)
    drawn = text[:, 0, 0][text[:, 0, 0] >= 0]
    assert 0.65 < (drawn < 2).float().mean() < 0.75  # media alone
    assert 0.07 < (drawn == 2).float().mean() < 0.13
    assert 0.16 < (drawn == 3).float().mean() < 0.24


def test_a_focus_is_drawn_more_often_and_can_end(samples):
    def share():
        _, _, text = samples.batch(2000, 2, 2, identity=0.0)
        media = text[:, 0, 0][(text[:, 0, 0] >= 0) & (text[:, 0, 0] < 2)]
        return float((media == 1).float().mean())

    samples.look_at({"pencil sketch": 6.0})
    assert 0.82 < share() < 0.89
    samples.look_at({})
    assert 0.46 < share() < 0.54


def test_text_and_image_are_dropped_alone_and_together(samples):
    samples.photos = [torch.full((CHANNELS, 6, 6), 2.0)]
    source, _, text = samples.batch(2000, 2, 2, identity=1.0)
    no_text, no_image = text[:, 0, 0] < 0, source.flatten(1).abs().amax(1) == 0
    for dropped in (no_text & ~no_image, no_image & ~no_text, no_text & no_image):
        assert 0.04 < dropped.float().mean() < 0.085


def test_styles_without_shards_are_left_out(capsys):
    latent = torch.zeros(CHANNELS, 2, 2)
    store = {"photo": {"a": latent}, slug("oil painting"): {"a": latent}, mood_folder("winter", "oil painting"): {}}
    assert set(trained_styles(store)) == {("oil painting", None)}
    assert "no shards" in capsys.readouterr().out


def test_new_and_renewed_pictures_join_the_cache(tmp_path):
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=CHANNELS,
    )
    folder, shards, out = tmp_path / "vae", tmp_path / "shards", tmp_path / "latents.pt"
    vae.save_pretrained(folder)
    (shards / "photo").mkdir(parents=True)

    def draw(name, level):
        cv2.imwrite(str(shards / "photo" / f"{name}.jpg"), np.full((16, 16, 3), level, np.uint8))

    draw("a", 30)
    draw("b", 60)
    draw("held-out", 90)
    first = cache_latents(folder, shards, out, {"held-out"}, torch.device("cpu"))
    assert set(first["photo"]) == {"a", "b"}
    draw("b", 200)
    draw("c", 100)
    os.utime(shards / "photo" / "b.jpg", (out.stat().st_mtime + 5,) * 2)
    os.utime(shards / "photo" / "a.jpg", (out.stat().st_mtime - 5,) * 2)
    second = cache_latents(folder, shards, out, {"held-out"}, torch.device("cpu"))
    assert set(second["photo"]) == {"a", "b", "c"}
    assert torch.equal(first["photo"]["a"], second["photo"]["a"])
    assert not torch.equal(first["photo"]["b"], second["photo"]["b"])

    with torch.no_grad():
        next(vae.encoder.parameters()).mul_(2)
    vae.save_pretrained(folder)
    later = out.stat().st_mtime + 5
    for file in folder.iterdir():
        os.utime(file, (later, later))
    third = cache_latents(folder, shards, out, {"held-out"}, torch.device("cpu"))
    assert not torch.equal(third["photo"]["a"], second["photo"]["a"])


def test_what_shines_through_the_first_noise_is_not_always_the_target():
    torch.manual_seed(0)
    target, source = torch.full((900, 1, 2, 2), 2.0), torch.full((900, 1, 2, 2), 5.0)

    def shares(level):
        under = left_over(target, source, torch.full((900,), level))
        assert (under == under[:, :, :1, :1]).all()
        return [float((under[:, 0, 0, 0] == value).float().mean()) for value in (0.0, 2.0, 5.0)]

    assert shares(FIRST_LEVEL) == pytest.approx([0.3, 0.35, 0.35], abs=0.05)
    assert shares(700) == pytest.approx([0, 0.9, 0.1], abs=0.05)
    assert shares(699) == [0, 1, 0]


def test_noise_hides_colours_but_not_texture():
    torch.manual_seed(0)
    noise = uneven_noise(torch.zeros(400, 4, 16, 16))
    slow = torch.nn.functional.avg_pool2d(noise, 8)
    fine = noise[..., ::2, ::2] - noise[..., ::2, 1::2]  # what changes from cell to cell
    assert 0.25 < slow.std() < 0.5  # white noise: 0.125
    assert fine.std() == pytest.approx(2**0.5, rel=0.05)
    white = noise.mean((1, 2, 3)).abs() < 0.04
    assert 0.15 < (slow[white].std((1, 2, 3)) < 0.2).float().sum() / 400 < 0.25
