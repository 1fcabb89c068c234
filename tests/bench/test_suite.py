"""A suite is read whole or refused with what is wrong, where, and what was perhaps meant."""

from __future__ import annotations

import pytest
from tests.clips import write_clip

from kinopaint.bench.suite import check_cells, read_suite
from kinopaint.errors import KinopaintError

WHOLE = """
prompts = ["oil", "pencil"]
presets = ["fast", "balanced"]
renderings = true
[settings]
work_size = "64x64"
s_text = 5
[[methods]]
name = "style-a-video"
[[methods]]
name = "style-a-video"
label = "more words"
settings = { s_text = 9 }
[[clips]]
file = "clip.mp4"
end = 0.25
"""


@pytest.fixture
def written(tmp_path):
    write_clip(tmp_path / "clip.mp4", frames=3, sound=False)

    def write(text):
        path = tmp_path / "suite.toml"
        path.write_text(text)
        return path

    return write


def test_the_cells_are_all_combinations(written):
    suite = read_suite(written(WHOLE))
    check_cells(suite)
    cells = list(suite.cells())
    assert len(cells) == 2 * (1 + 2 * 2)
    assert suite.name == "suite"
    assert [(cell.prompt, cell.label, cell.preset) for cell in cells[:3]] == [
        ("oil", "rendering", ""),
        ("oil", "style-a-video", "fast"),
        ("oil", "style-a-video", "balanced"),
    ]
    assert cells[3].settings == {"work_size": "64x64", "s_text": 9, "end": 0.25}


@pytest.mark.parametrize(
    ("wrong", "right", "code", "said"),
    [
        ("promts = ", "prompts = ", 2, "did you mean prompts"),
        ('prompts = "oil" #', "prompts = ", 2, "list"),
        ('prompts = ["oil", 3] #', "prompts = ", 2, "3 is not a text"),
        ('prompts = ["oil", "oil"] #', "prompts = ", 2, "twice"),
        ('presets = ["fats"] #', "presets = ", 2, "fast"),
        ("s_txt = 5", "s_text = 5", 2, "s_text"),
        ('s_text = "much"', "s_text = 5", 2, "not a number"),
        ("overwrite = true", "s_text = 5", 2, "no setting of a cell"),
        ("end = 2", "s_text = 5", 2, "belongs to a clip"),
        ('name = "style-a-vidoe"', 'name = "style-a-video"', 2, "style-a-video"),
        ('lable = "more words"', 'label = "more words"', 2, "did you mean label"),
        ('labels = ""\nlabel = 3', 'label = "more words"', 2, "label"),
        ("renderings = 1", "renderings = true", 2, "true or false"),
        ("begin = 0.25", "end = 0.25", 2, "there is no key 'begin'"),
        ("frames = 3", "end = 0.25", 2, "frames is for generated clips"),
        ('file = "clip.mp5"', 'file = "clip.mp4"', 3, "no such file"),
        ('demo = "tea"', 'file = "clip.mp4"', 2, "coffee"),
        ("[settings", "[settings]", 3, "not TOML"),
    ],
)
def test_what_is_wrong_is_named(written, wrong, right, code, said):
    assert right in WHOLE
    path = written(WHOLE.replace(right, wrong, 1))
    with pytest.raises(KinopaintError) as caught:
        check_cells(read_suite(path))
    assert caught.value.exit_code == code
    assert said in str(caught.value)
    assert "suite.toml" in caught.value.where


def test_a_missing_suite_is_an_input_error(tmp_path):
    with pytest.raises(KinopaintError, match="No such file") as caught:
        read_suite(tmp_path / "nothing.toml")
    assert caught.value.code == "KP-SUITE-MISSING"
