"""One pass over many rows: shared flow, sizes, reference rows, the ends of a clip."""

import cv2
import numpy as np
import pytest
from tests.metrics.conftest import panned, texture

from kinopaint.flow import DisFlow
from kinopaint.metrics.catalogue import CATALOGUE, SAME_AS
from kinopaint.metrics.measure import Moment, comparable, flow_size, measure


class CountingFlow:
    identity = "counting"

    def __init__(self):
        self.sizes = []

    def estimate(self, target, source):
        self.sizes.append(tuple(target.shape[-2:]))
        return DisFlow("ultrafast").estimate(target, source)


def moments(source, **results):
    for index, frame in enumerate(source):
        yield Moment(index / 12, frame, {name: frames[index] for name, frames in results.items()})


def test_flow_is_estimated_once_for_all_rows():
    source, flow = panned(12, 1), CountingFlow()
    found = measure(moments(source, a=source, b=source[::-1]), flow=flow, references=True)
    # pairs with the previous frame 11, with the first 10 more (which the one over ten frames is among); both ways
    assert len(flow.sizes) == 2 * (11 + 10)
    assert list(found.rows) == ["source", "a", "b", "constant", "blurred", "noisy", "smeared"]


def test_the_source_as_its_own_result_is_the_source_s_row():
    source = panned(5, 1)
    rows = measure(moments(source, same=source)).rows
    assert rows["same"].metrics == rows["source"].metrics
    assert rows["same"].metrics["e_warp_excess"] == 0
    assert rows["same"].metrics["psnr"] == 100


def test_every_metric_of_the_catalogue_is_there_and_explained():
    source = panned(12, 1)
    row = measure(moments(source, same=source), prompt="x").rows["same"]
    assert set(row.metrics) == {*CATALOGUE, *SAME_AS}
    assert set(row.undefined) == {name for name, value in row.metrics.items() if value is None}
    assert {len(series) for series in row.per_frame.values()} == {12}


def test_a_single_frame_and_a_short_clip_say_what_is_missing():
    one = measure(moments([texture()], same=[texture()]))
    assert one.rate == 0
    assert one.rows["same"].metrics["ssim"] == pytest.approx(1)
    assert one.rows["same"].metrics["e_warp"] is None
    assert (
        one.rows["same"].undefined["e_warp"] == one.rows["same"].undefined["colour_drift"] == "there is a single frame"
    )
    short = measure(moments(panned(4, 1), same=panned(4, 1))).rows["same"]
    assert short.undefined["l_temporal_10"] == "there are no 11 frames"
    assert short.undefined["flicker"] == "there are fewer than 8 frames"


def test_the_flow_has_the_smallest_size_and_at_most_the_given_one():
    assert flow_size([(1280, 720), (1280, 720)]) == (910, 512)
    assert flow_size([(720, 1280)]) == (512, 910)
    assert flow_size([(1280, 720), (320, 180)]) == (320, 180)
    assert flow_size([(48, 32)], 512) == (48, 32)
    flow = CountingFlow()
    small = [cv2.resize(frame, (28, 20)) for frame in panned(2, 1)]
    assert measure(moments(panned(2, 1), small=small), flow=flow).size == (28, 20)
    assert set(flow.sizes) == {(20, 28)}


def test_the_larger_picture_is_reduced():
    large, small = texture(40, 56), texture(20, 28)
    assert comparable(large, small)[1] is small
    assert comparable(small, large)[0] is small
    assert np.array_equal(comparable(small, large)[1], cv2.resize(large, (28, 20), interpolation=cv2.INTER_AREA))


def grainy(picture, seed):
    grain = np.random.default_rng(seed).normal(0, 3, picture.shape)
    return np.rint(picture + grain).clip(0, 255).astype(np.uint8)


def test_reference_rows_game_what_the_docs_say_they_game():
    source = [grainy(frame, index) for index, frame in enumerate(panned(14, 1))]
    rows = {name: row.metrics for name, row in measure(moments(source), references=True).rows.items()}
    assert rows["constant"]["e_warp"] == pytest.approx(0, abs=1e-6)
    assert rows["constant"]["psnr"] < rows["blurred"]["psnr"]
    assert rows["constant"]["sharpness_ratio"] == 0
    assert rows["noisy"]["e_warp"] > 2 * rows["source"]["e_warp"]
    assert rows["noisy"]["sharpness_ratio"] > 1.1
    assert rows["blurred"]["e_warp"] < rows["source"]["e_warp"]
    assert rows["smeared"]["e_warp_previous"] < rows["source"]["e_warp_previous"]
    assert rows["smeared"]["sharpness_ratio"] < 0.95


def test_reference_rows_repeat_exactly():
    first, again = (measure(moments(panned(3, 1)), references=True).rows["noisy"].metrics for _ in range(2))
    assert first == pytest.approx(again, nan_ok=False)


def test_frames_are_not_kept():
    """Of forty frames at most the first, the last ten and the one in hand are alive."""
    import weakref

    alive = []
    most = 0

    def stream():
        nonlocal most
        for index in range(40):
            picture = texture(16, 16, seed=index)
            alive.append(weakref.ref(picture))
            most = max(most, sum(reference() is not None for reference in alive))
            yield Moment(index / 12, picture, {"same": picture})

    measure(stream(), flow=CountingFlow())
    assert most <= 12
