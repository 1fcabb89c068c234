"""Segments give back every bit."""

from __future__ import annotations

import numpy as np
import pytest

from kinopaint.video.segments import decode_segment, encode_segment


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (72, 136)])
@pytest.mark.parametrize("count", [1, 3])
def test_every_bit_comes_back(size, count):
    pictures = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    found = list(decode_segment(encode_segment(pictures)))
    assert np.array_equal(np.stack(found), pictures)


def test_pictures_are_read_one_by_one():
    pictures = np.arange(3 * 16 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16, 3)
    assert np.array_equal(next(decode_segment(encode_segment(pictures))), pictures[0])
