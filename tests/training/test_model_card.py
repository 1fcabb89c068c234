"""The figures in the model card are those that the judge wrote."""

import csv

from training.model_card import BEGIN, CARD, END, read, section, table, weakest

ROWS = [
    ("run", "settings", "StyleAVideo(s_text=2.0)", 8),
    ("run", "pictures", "a b c", 192),
    *[("medium", name, "named", value) for name, value in (("oil", 0.9), ("ink", 0.5), ("chalk", 0.2), ("wax", 0.1))],
    *[("medium", name, "ssim", 0.4) for name in ("oil", "ink", "chalk", "wax")],
    *[("medium", name, "ssim_photo", 0.5) for name in ("oil", "ink", "chalk", "wax")],
    ("medium", "oil", "e_warp", 0.3),
    ("medium", "oil", "e_warp_generator", 0.2),
    ("medium", "wax", "feature", 1.0),
    *[("mood", "winter", figure, 0.75) for figure in ("named", "ssim", "ssim_photo")],
    ("pair", "oil, winter", "both", 0.5),
    ("control", "s_text=2", "prompt_score", 0.25),
    ("control", "s_text=2", "content_ssim", 0.125),
]


def test_the_section_tells_what_the_judge_wrote(tmp_path):
    with open(tmp_path / "judge.csv", "w", newline="") as file:
        csv.writer(file).writerows([("kind", "name", "figure", "value"), *ROWS])
    found, run = read(tmp_path / "judge.csv")
    lines = table(found["medium"], "medium")
    assert "| oil | 90 % | 80 % | – | 1.5 × |" in lines
    assert lines[-1].startswith("| **mean** | 42 % |")
    assert weakest(found["medium"]) == ["chalk", "ink", "oil"]
    text = section(found, run)
    assert "3 held-out pictures at 192 px, 8 steps" in text
    assert "50 % show both" in text
    assert "s_text=2: 0.250 / 0.12" in text
    assert "gallery/chalk.jpg" in text


def test_the_card_has_a_place_for_figures():
    card = CARD.read_text(encoding="utf-8")
    assert card.index(BEGIN) < card.index(END)
