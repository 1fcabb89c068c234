"""A small edition of `benchmarks/kills.py`: real processes, killed at random moments by SIGKILL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_ten_killed_runs_lose_nothing_and_differ_in_nothing():
    words = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "10", "--points", "0", "--frames", "8"]
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: 0, different: 0" in done.stdout
    assert "10 trials" in done.stdout
