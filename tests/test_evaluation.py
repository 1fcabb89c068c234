"""`evaluate` on files: the record, pairing of frames, sizes, errors that say what to do."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial

import av
import cv2
import numpy as np
import pytest
from tests.clips import write_clip

import kinopaint
from kinopaint.errors import InputError, ModelError, QualityGateError, SettingsError
from kinopaint.evaluation import evaluate as evaluate_with_shots
from kinopaint.evaluation import evaluate_all
from kinopaint.metrics.psnr import psnr
from kinopaint.models import mini_path
from kinopaint.models.clip import has_pair
from kinopaint.video import open_clip

evaluate = partial(evaluate_with_shots, shots="off")  # finding cuts decodes once more


def rewrite(source, path, change=lambda picture, index: picture, *, rate=Fraction(12), times=None):
    """A copy of a clip whose pictures were changed, losslessly; `times` in seconds, if not one after the other."""
    with open_clip(source) as clip:
        pictures = [change(frame.image, frame.index) for frame in clip]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.time_base = "bgr0", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="bgr0")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (times[index] if times else index / rate))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("evaluation") / "source.mp4", frames=12)


def darker(picture, index):
    return picture // 2


def test_the_record(source, tmp_path):
    result = rewrite(source, tmp_path / "result.mkv", darker)
    report = kinopaint.evaluate(source, result, prompt="a watercolor painting")
    assert report.frames == 12
    assert report.rate == pytest.approx(12, rel=1e-3)
    assert report.times[:2] == (0, pytest.approx(1 / 12, abs=2e-3))
    assert report.sizes == {"source": (48, 32), "result": (48, 32), "flow": (48, 32)}
    with open_clip(source) as clip:
        expected = np.mean([psnr(frame.image // 2, frame.image) for frame in clip])
    assert report.metrics["psnr"] == pytest.approx(expected, abs=1e-6)
    assert report.metrics["e_warp"] == pytest.approx(report.source_metrics["e_warp"] / 2, rel=0.1)
    assert "psnr" not in report.source_metrics
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    asked = {"fra_con", "pro_con", "content", "e_warp", "l_temporal", "sharpness_ratio", "psnr", "ssim"}
    assert asked <= plain["metrics"].keys()
    assert plain["frames"] == len(plain["per_frame"]["e_warp"]) == len(plain["times"]) == 12
    assert plain["per_frame"]["e_warp"][0] is None


def test_a_clip_against_itself(source):
    report = evaluate(source, source)
    assert report.metrics["psnr"] == 100
    assert report.metrics["ssim"] == pytest.approx(1, abs=1e-6)
    assert report.metrics["sharpness_ratio"] == pytest.approx(1)
    assert report.metrics["e_warp_excess"] == 0


def test_several_results_in_one_pass_are_as_one_by_one(source, tmp_path):
    results = [rewrite(source, tmp_path / "a.mkv", darker), source]
    together = evaluate_all(source, results)
    assert [report.result for report in together] == results
    assert together[0].metrics == pytest.approx(evaluate(source, results[0]).metrics)
    assert together[1].metrics == pytest.approx(evaluate(source, source).metrics)


def test_sizes_that_differ_are_compared_at_the_smaller_one(source, tmp_path):
    small = rewrite(source, tmp_path / "small.mkv", lambda p, _: cv2.resize(p, (24, 16), interpolation=cv2.INTER_AREA))
    report = evaluate(source, small)
    assert report.sizes["flow"] == (24, 16)
    assert report.metrics["psnr"] == 100
    assert evaluate(small, source).metrics["psnr"] == 100


def test_another_shape_is_refused(source, tmp_path):
    tall = rewrite(source, tmp_path / "tall.mkv", lambda p, _: np.rot90(p))
    with pytest.raises(InputError, match="48x32, the result 32x48") as raised:
        evaluate(source, tall)
    assert raised.value.code == "KP-EVALUATE-SHAPE"


def test_different_frame_counts_are_refused_before_any_work(source, tmp_path):
    short = write_clip(tmp_path / "short.mp4", frames=11)
    with pytest.raises(InputError, match="the source has 12 frames, the result 11") as raised:
        evaluate(source, short, progress=lambda event: pytest.fail("work was done"))
    assert raised.value.code == "KP-EVALUATE-FRAMES"
    assert "--start" in raised.value.fix


def test_the_part_that_was_restyled_can_be_named(source, tmp_path):
    with open_clip(source, start=0.25, end=0.9, every=2) as clip:
        times = [float(frame.time) for frame in clip]
        pictures = [frame.image for frame in clip]
    part = tmp_path / "part.mkv"
    whole = rewrite(source, tmp_path / "whole.mkv")
    with av.open(str(part), "w") as container:
        stream = container.add_stream("ffv1", rate=6)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())
    report = evaluate(source, part, start=0.25, end=0.9, every=2)
    assert report.frames == len(times)
    assert report.metrics["psnr"] == 100
    with pytest.raises(InputError, match="frames"):
        evaluate(whole, part)


def test_times_that_do_not_pair_are_refused_with_the_frame(source, tmp_path):
    late = [index / 12 + (0.1 if index > 6 else 0) for index in range(12)]
    shifted = rewrite(source, tmp_path / "late.mkv", times=late)
    with pytest.raises(InputError, match=r"0\.583 s, the result at 0\.683 s") as raised:
        evaluate(source, shifted)
    assert raised.value.code == "KP-EVALUATE-TIMES"
    assert "frame 7" in raised.value.where


def test_a_coarser_clock_and_a_later_start_still_pair(source, tmp_path):
    coarse = rewrite(source, tmp_path / "coarse.mkv", times=[1 + round(index / 12, 2) for index in range(12)])
    assert evaluate(source, coarse).metrics["psnr"] == 100


def test_an_image_sequence_has_the_source_s_rate(source, tmp_path):
    with open_clip(source) as clip:
        for frame in clip:
            cv2.imwrite(str(tmp_path / f"{frame.index:03d}.png"), frame.image[..., ::-1])
    report = evaluate(source, tmp_path / "%03d.png")
    assert report.metrics["psnr"] == 100
    with pytest.raises(InputError, match="shows this frame"):
        evaluate(source, tmp_path / "%03d.png", fps=25)


def test_the_first_frame_of_a_shot_is_not_among_the_worst(source, tmp_path):
    def cut(picture, index):
        return picture if index < 6 else picture // 3

    jump = rewrite(source, tmp_path / "jump.mkv", cut)
    assert evaluate(source, jump).worst[0].frame == 6
    report = evaluate(source, jump, shots=[6])
    assert report.cuts == (6,)
    assert all(worst.frame != 6 for worst in report.worst)
    assert any("scene cuts (1)" in note for note in report.notes)


def test_pictures_can_be_evaluated(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    for name, image in (("a.png", picture), ("b.png", picture // 2)):
        cv2.imwrite(str(tmp_path / name), image)
    report = evaluate(tmp_path / "a.png", tmp_path / "b.png")
    assert report.frames == 1
    assert report.metrics["e_warp"] is None
    assert 0 < report.metrics["psnr"] < 20


def test_without_image_tower_scores_are_null_with_the_reason(source, monkeypatch, model_folder):
    monkeypatch.setattr("kinopaint.models.mini_path", lambda: model_folder)
    report = evaluate(source, source, prompt="oil")
    assert report.encoder is None
    assert report.metrics["content"] is None
    assert "no image encoder" in report.undefined["content"]
    assert any("no image encoder" in note for note in report.notes)
    with pytest.raises(ModelError, match="image_encoder"):  # asked for by name, it is an error
        evaluate(source, source, clip=model_folder)


@pytest.mark.skipif(not has_pair(mini_path()), reason="the embedded model has no image encoder yet")
def test_the_embedded_pair_scores_and_says_that_it_is_its_own_scale(source):
    report = evaluate(source, source, prompt="a watercolor painting")
    assert report.encoder == "mini"
    assert report.metrics["content"] == pytest.approx(1, abs=1e-5)
    assert any("among themselves" in note for note in report.notes)


def test_gates(source):
    report = evaluate(source, source)
    report.check(["psnr<50", "e_warp_excess>0.01"])
    with pytest.raises(QualityGateError, match="psnr is 100") as raised:
        report.check(["psnr>50", "ssim<2", "e_warp>9"])
    assert "ssim" in raised.value.what
    assert "e_warp" not in raised.value.what
    assert raised.value.exit_code == 7


def test_settings_are_checked_first(tmp_path):
    for wrong in ({"every": 0}, {"short_side": "many"}, {"start": 3, "end": 2}):
        with pytest.raises(SettingsError):
            evaluate(tmp_path / "none.mp4", tmp_path / "none.mp4", **wrong)


def test_progress_ends_at_the_last_frame(source):
    events = []
    evaluate(source, source, progress=events.append)
    assert events[-1]["frames_done"] == events[-1]["frames"] == 12
