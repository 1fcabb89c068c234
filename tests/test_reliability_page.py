"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not beside these tests")
def test_every_test_named_there_exists():
    named = 0
    for row in PAGE.read_text(encoding="utf-8").splitlines():
        file = None
        for path, test in re.findall(r"`(?:([\w/]+\.py))?(?:::)?(test_\w+)?`", row):
            if path:
                file = TESTS.parent / path if path.startswith("benchmarks/") else TESTS / path
                assert file.exists(), path
            if test:
                assert file is not None, row
                assert re.search(rf"^def {test}\(", file.read_text(encoding="utf-8"), re.M), test
                named += 1
    assert named > 80
