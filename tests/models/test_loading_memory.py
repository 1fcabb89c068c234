"""Loading needs little more memory than the weights take; `python -m benchmarks.loading` measures other sizes."""

import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_loading_takes_no_more_than_the_weights():
    from benchmarks.loading import LIMIT, measure

    found = measure(240, "float32")
    assert found["weights"] > 200 * 2**20
    assert found["ratio"] <= LIMIT
