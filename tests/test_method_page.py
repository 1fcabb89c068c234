"""The methods' pages lead to lines of code that are there; Style-A-Video's names a test for every identity."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGES = TESTS.parent / "docs" / "methods"
PAGE = PAGES / "style-a-video.md"
REACH = 20  # lines: a link may be off by what one sees around it

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is not beside these tests")


@pytest.mark.parametrize(("page", "least"), [("style-a-video", 20), ("pix2video", 5), ("fresco", 12)])
def test_links_lead_to_what_they_name(page, least):
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    numbered = 0
    for name, path, number in re.findall(r"\[`([^`]+)`\]\(([^)#]+)(?:#L(\d+))?\)", text):
        target = PAGES / path
        assert target.exists(), path
        if number:
            lines = target.read_text(encoding="utf-8").splitlines()
            found = [at for at, line in enumerate(lines, 1) if re.match(rf"\s*(def|class) {name}\b", line)]
            assert any(abs(at - int(number)) <= REACH for at in found), f"{name} is at lines {found} of {path}"
            numbered += 1
    assert numbered >= least


def test_every_identity_has_a_test():
    rows = dict(re.findall(r"^\| T(\d+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M))
    assert sorted(map(int, rows)) == list(range(1, 41))
    for row in rows.values():
        text = ""
        for file, test in re.findall(r"`([\w/]+\.py)`|`(test_\w+)`", row):
            text = (TESTS / file).read_text(encoding="utf-8") if file else text
            assert not test or re.search(rf"^def {test}\(", text, re.M), test
        assert "`test_" in row
