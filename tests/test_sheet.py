import cv2
import numpy as np
import pytest

from kinopaint.sheet import LINE, MARGIN, contact_sheet


def caption(text):
    return contact_sheet([[(np.zeros((40, 300, 3), np.uint8), text)]])[-LINE - MARGIN : -MARGIN]


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 writes ASCII only")
@pytest.mark.parametrize("letters", ["aäåßçñø", "акверль", "水彩画"])
def test_captions_beyond_ascii_show_each_letter(letters):
    missing = "\U000f0000"
    assert len({caption(letter).tobytes() for letter in (*letters, missing, "?")}) == len(letters) + 2


def test_a_caption_is_one_line():
    np.testing.assert_array_equal(caption("an oil\npainting"), caption("an oil painting"))
