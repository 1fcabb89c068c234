"""Free wording is read as the medium and mood it means: synonyms, instructions, other order, slips of the finger."""

from __future__ import annotations

import random

import pytest
from training.free_wordings import TOGETHER, UNKNOWN, WORDINGS
from training.words import ALSO, IDENTITY, MEDIA, MOODS, TEMPLATES, held_out_phrases, train_phrases

from kinopaint.wording import Lexicon, Reading, alike, words_of

STYLES = (*MEDIA, *MOODS)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    """Without the fifth of the phrasings that is kept out of training."""
    own = [{name: train_phrases(name) for name in group} for group in (MEDIA, MOODS)]
    return Lexicon(*own, ALSO)


def right(reading: Reading, style: str) -> bool:
    return (reading.medium if style in MEDIA else reading.mood) == style


def share(lexicon: Lexicon, wordings: list[tuple[str, str]]) -> float:
    return sum(right(lexicon.read(text), style) for style, text in wordings) / len(wordings)


def test_names_are_read_exactly(lexicon):
    for style in STYLES:
        reading = lexicon.read(style)
        assert right(reading, style), style
        assert reading.exact, style


def test_nine_of_ten_free_wordings_are_understood(lexicon):
    assert share(lexicon, [(style, text) for style, texts in WORDINGS.items() for text in texts]) > 0.9


def test_nine_of_ten_phrasings_kept_out_are_understood(lexicon):
    assert share(lexicon, [(style, text) for style in STYLES for text in held_out_phrases(style)]) > 0.9


def test_instructions_around_a_style_change_nothing(lexicon):
    for place, template in enumerate(dict.fromkeys(TEMPLATES)):
        style = STYLES[place % len(STYLES)]
        assert right(lexicon.read(template.format(style)), style), template.format(style)


def test_one_slip_of_the_finger_is_forgiven(lexicon):
    rng = random.Random(0)
    slipped = []
    for style in STYLES:
        word = max(words_of(style), key=len)
        at = rng.randrange(1, len(word) - 1)
        letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
        left_out, put_in = word[:at] + word[at + 1 :], word[:at] + letter + word[at:]
        swapped = word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
        name = " ".join(words_of(style))
        slipped += [(style, name.replace(word, wrong)) for wrong in (left_out, put_in, swapped)]
    assert share(lexicon, slipped) > 0.9


@pytest.mark.parametrize(("text", "medium", "mood"), TOGETHER)
def test_medium_and_mood_are_read_together_in_any_order(lexicon, text, medium, mood):
    reading = lexicon.read(text)
    assert (reading.medium, reading.mood) == (medium, mood)


@pytest.mark.parametrize("text", [*UNKNOWN, *IDENTITY])
def test_words_about_no_style_are_not_guessed_at(lexicon, text):
    assert lexicon.read(text).prompt == ""


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("an oil painting without snow", "oil painting"),
        ("watercolor, no autumn colours", "watercolor painting"),
        ("a pencil sketch, not an oil painting", "pencil sketch"),
        ("without colour", "monochrome"),
        ("no colors, ink wash", "ink wash painting (sumi-e), monochrome"),
        ("not a mosaic", ""),
    ],
)
def test_what_is_not_wanted_is_not_read(lexicon, text, prompt):
    reading = lexicon.read(text)
    assert reading.prompt == prompt


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("a little like a charcoal sketch", "slightly charcoal drawing"),
        ("very impressionistic", "strongly impressionist painting"),
        ("subtle snow over an aquarel", "slightly watercolor painting, winter"),
        ("extremely vibrant", "strongly vivid colours"),
    ],
)
def test_strength_is_kept(lexicon, text, prompt):
    assert lexicon.read(text).prompt == prompt


def test_words_of_captions_need_no_translation_others_do(lexicon):
    assert lexicon.read("make it a watercolour").exact
    assert lexicon.read("strongly van gogh").exact
    assert not lexicon.read("an aquarel").exact
    assert not lexicon.read("a watercolour of my neighbour").exact
    assert not lexicon.read("a touch of watercolour").exact


def test_words_are_compared_by_stem_and_slip():
    assert alike("painted", "painting") > 0.9
    assert 0 < alike("watercolro", "watercolor") < 0.9
    assert alike("snow", "show") == 0
    assert alike("engraving", "charcoal") == 0
    assert words_of("Make it a Pencil-Drawing in grey, S'il vous plaît & colour!") == (
        *("pencil", "drawing", "gray", "s", "il", "vous", "plait", "color"),
    )
