"""The list of styles, and which of them some words are near to."""

from __future__ import annotations

import json

import pytest
from tests.clips import write_clip

from kinopaint.models import mini_path
from kinopaint.styles import Style, advice, known_styles, nearest, read, translated
from kinopaint.types import Prompt

# Spelled as the embedded model's specification lists them.
MEDIA = (
    "oil painting · impasto (palette knife) · watercolor painting · gouache painting · chalk pastel drawing"
    " · wax crayon drawing · pencil sketch · coloured pencil drawing · charcoal drawing · ink wash painting (sumi-e)"
    " · pen and ink drawing with cross-hatching · copper engraving · woodcut (linocut) · ukiyo-e woodblock print"
    " · comic book · anime (cel shading) · pop art with halftone dots · pointillist painting · impressionist painting"
    " · swirling post-impressionist painting (van Gogh) · cubist painting · expressionist painting · mosaic of tiles"
    " · stained glass window · pixel art · low-poly render · paper cut-out · cross-stitch embroidery"
    " · chalkboard drawing · blueprint · neon (cyberpunk) · faded vintage photograph · film noir · art deco poster"
    " · thermal camera image · gold-leaf decorative painting (Klimt)"
).split(" · ")
MOODS = (
    "autumn colours · winter · spring blossom · moonlit night · golden-hour sunset · vivid colours · muted earth tones"
    " · monochrome · sepia · ocean blues · pink and teal (vaporwave) · candlelight"
).split(" · ")

FEW = {
    "media": [
        {"name": "oil painting", "trained": True, "phrases": ["painted in oils", "oil on canvas"]},
        {"name": "mosaic of tiles", "trained": False, "phrases": ["tesserae"]},
    ],
    "moods": [{"name": "winter", "trained": True, "phrases": ["snow"], "also": ["frosty"]}],
    "unchanged": ["leave it"],
}


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A list of three styles in place of the shipped one."""
    (tmp_path / "styles.json").write_text(json.dumps(FEW), encoding="utf-8")
    monkeypatch.setattr("kinopaint.models.mini_path", lambda: tmp_path)
    return tmp_path


@pytest.mark.skipif(not (mini_path() / "styles.json").exists(), reason="this checkout carries no embedded weights")
def test_the_shipped_list_has_36_media_and_12_moods_with_their_names():
    listed = known_styles()
    assert [style.name for style in listed if style.kind == "medium"] == MEDIA
    assert [style.name for style in listed if style.kind == "mood"] == MOODS


def test_a_style_is_nearest_to_its_own_name_and_phrases(few, parts):
    for words, name in (("oil painting", "oil painting"), ("tesserae", "mosaic of tiles"), ("snow", "winter")):
        first = nearest(words, parts.text_encoder)[0]
        assert first.style.name == name
        assert first.nearness == pytest.approx(1, abs=1e-4)


def test_every_style_is_ranked_once(few, parts):
    matches = nearest("anything at all", parts.text_encoder)
    assert sorted(match.style.name for match in matches) == ["mosaic of tiles", "oil painting", "winter"]
    assert [match.nearness for match in matches] == sorted((match.nearness for match in matches), reverse=True)


def test_advice_on_known_untrained_and_strange_words(few, parts, monkeypatch):
    assert advice("oil painting", parts.text_encoder) == ""
    untrained = advice("tesserae", parts.text_encoder)
    assert "'mosaic of tiles' yet" in untrained
    assert "oil painting" in untrained
    assert "has not learnt words like 'a dragon'" in advice("a dragon", parts.text_encoder)
    assert advice("leave it", parts.text_encoder) == ""


def test_prompts_are_translated_for_a_checkpoint_with_a_list(few):
    assert translated(Prompt("painted in oils", "blurred"), few) == Prompt("painted in oils", "blurred")
    assert translated(Prompt("my dog pianted in oils", "blurred"), few) == Prompt("oil painting", "blurred")
    assert translated(Prompt("frosty tesserae"), few) == Prompt("mosaic of tiles, winter")
    assert translated(Prompt("a dragon"), few) == Prompt("a dragon")
    assert translated(Prompt("frosty tesserae"), few / "elsewhere") == Prompt("frosty tesserae")
    assert translated(Prompt("frosty tesserae"), None) == Prompt("frosty tesserae")
    assert read("slightly frosty", few).prompt == "slightly winter"


def test_a_broken_list_is_a_model_error(few):
    (few / "styles.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="list of styles"):
        known_styles()


def test_style_is_a_plain_record():
    assert Style("winter", "mood", trained=True).phrases == ()


class TestCommand:
    def test_lists_all(self, few, capsys):
        from kinopaint.cli import main

        assert main(["styles"]) == 0
        out = capsys.readouterr().out
        assert "oil painting\n" in out
        assert "mosaic of tiles   (not trained yet)" in out
        assert main(["styles", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [entry["name"] for entry in found["media"]] == ["oil painting", "mosaic of tiles"]
        assert found["moods"] == [{"name": "winter", "trained": True}]

    def test_ranks_words(self, few, loaded, capsys, monkeypatch):
        from kinopaint.cli import main

        monkeypatch.setattr("kinopaint.models.load_model", lambda *_, **__: loaded["epsilon"], raising=False)
        assert main(["styles", "painted", "in", "oils"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "read as: oil painting"
        assert lines[1].endswith("oil painting (medium)")

    def test_stylize_warns_of_words_that_are_not_trained(self, few, loaded, capsys, monkeypatch, tmp_path):
        from kinopaint.cli import main

        monkeypatch.setattr("kinopaint.api.load_model", lambda *_, **__: loaded["epsilon"])
        monkeypatch.setattr("kinopaint.job.Job.check_model", lambda self: None)
        clip = write_clip(tmp_path / "in.mp4", 2)
        assert main(["stylize", str(clip), "tesserae", "-o", str(tmp_path / "o.mp4"), "--steps", "1"]) == 0
        assert "warning: the embedded model has not been trained on 'mosaic of tiles'" in capsys.readouterr().err

    def test_stylize_says_how_other_words_are_read(self, few, loaded, capsys, monkeypatch, tmp_path):
        from dataclasses import replace

        from kinopaint.cli import main

        parts = replace(loaded["epsilon"], path=few)
        monkeypatch.setattr("kinopaint.api.load_model", lambda *_, **__: parts)
        monkeypatch.setattr("kinopaint.job.Job.check_model", lambda self: None)
        monkeypatch.setattr("kinopaint.recipe.weight_hashes", lambda path: {}, raising=False)
        clip = write_clip(tmp_path / "in.mp4", 2)
        words = "my dog in frosty oils"
        assert main(["stylize", str(clip), words, "-o", str(tmp_path / "o.mp4"), "--steps", "1", "--sidecar"]) == 0
        assert f"warning: {words!r} is read as 'oil painting, winter'" in capsys.readouterr().err
        recipe = json.loads((tmp_path / "o.mp4.json").read_text(encoding="utf-8"))
        assert recipe["settings"]["prompt"] == words
        assert recipe["read_as"] == "oil painting, winter"
