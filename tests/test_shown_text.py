import json

import pytest

from kinopaint.text import LONGEST, shown, to_json

HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\r\nKP-DONE\x7f\x9b31m \u202egnp.exe\u2066\u200b\ufeff\u2028 <script>\udcff"


def test_nothing_that_acts_is_left():
    text = shown(HOSTILE)
    assert text.isprintable()
    assert "\\x1b[2Jb\\r\\nKP-DONE" in text
    assert "\\u202egnp.exe" in text
    assert "\\udcff" in text


def test_letters_of_all_languages_stay():
    text = "Grüße 日本語 العربية 🎬 C:\\new\\table"
    assert shown(text) == text


def test_twice_is_as_once():
    assert shown(shown(HOSTILE)) == shown(HOSTILE)
    long = shown("x" * 10_000_000)
    assert len(long) < LONGEST + 40
    assert long.endswith("(10000000 characters)")


@pytest.mark.parametrize("value", [{"title": HOSTILE, "n": [1, None, 1.5]}, "é\U0001f3ac", {"\x1b": "\u2029"}])
def test_json_prints_and_means_the_same(value):
    for indent in (None, 2):
        text = to_json(value, indent)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert json.loads(text) == value
