"""Commands run in this process."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.clips import write_clip

from kinopaint.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def kinopaint(capsys):
    """Run a command line; gives its exit code and what it printed."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")
