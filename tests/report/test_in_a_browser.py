"""The page in Debian's Chromium: it plays, the slider moves, a click on a curve jumps, nothing complains."""

from __future__ import annotations

import pytest
from tests.clips import write_clip
from tests.report import chromium

from kinopaint.evaluation import evaluate_all
from kinopaint.report import write_report

pytestmark = [
    pytest.mark.skipif(not chromium.FOUND, reason="chromium is not installed (apt-get install chromium)"),
    pytest.mark.timeout(600),
]

# The colours in the middle of the pictures, as they are drawn.
MIDDLES = """[...document.querySelectorAll('#stage canvas')].map((canvas) => {
  const copy = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, -(canvas.width >> 1), -(canvas.height >> 1));
  return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The comparison of a clip with itself and with its negative, opened."""
    from tests.test_evaluation import rewrite

    folder = tmp_path_factory.mktemp("browser")
    source = write_clip(folder / "source.mp4", frames=24, size=(160, 96), sound=False)
    negative = rewrite(source, folder / "negative.mkv", lambda picture, index: 255 - picture)
    path = folder / "page.html"
    write_report(evaluate_all(source, [negative, source]), path)
    with chromium.chromium() as opened:
        opened.open(path)
        opened.wait_for("film.readyState >= 2 && !film.seeking")
        yield opened


def test_it_plays(page):
    before = page.value("film.currentTime")
    page.click("#play")
    page.wait_for(
        f"film.currentTime !== {before} && !film.paused && byId('play').getAttribute('aria-label') === 'Pause'"
    )
    page.press(" ")
    page.wait_for("film.paused")
    assert page.problems == []


def test_the_wipe_moves_between_source_and_result(page):
    page.click('[data-mode="wipe"]')
    page.value("go(0)")
    page.wait_for("!film.seeking")
    page.click("#wipe", 0.02)
    assert page.value("+wipe.value") < 5
    (result,) = page.value(MIDDLES)
    page.click("#wipe", 0.98)
    assert page.value("+wipe.value") > 95
    (source,) = page.value(MIDDLES)
    assert all(abs(255 - a - b) < 40 for a, b in zip(result, source, strict=True))  # its negative
    assert max(abs(a - b) for a, b in zip(result, source, strict=True)) > 60
    page.value("wipe.focus()")
    page.press("ArrowLeft")
    page.wait_for("+wipe.value < 98")
    assert page.problems == []


def test_a_click_on_a_curve_jumps_there(page):
    for share, frame in ((0.76, 18), (0.26, 6)):
        page.click(".plotted", share)
        page.wait_for("!film.seeking")
        assert page.value("data.frames[place()]") == frame
        assert f"frame {frame} " in page.value("byId('clock').textContent")
    assert page.value("film.paused")
    assert page.problems == []


def test_a_worst_frame_jumps_there_and_shows_its_result(page):
    frame, result = page.value("[...Object.values(document.querySelector('[data-frame]').dataset)].map(Number)")
    page.click("[data-frame]")
    page.wait_for("!film.seeking")
    assert page.value("[data.frames[place()], chosen]") == [frame, result]
    assert page.problems == []


def test_keys_step_and_switch_views(page):
    page.value("go(3); document.activeElement.blur()")
    page.press("ArrowRight")
    page.wait_for("!film.seeking")
    assert page.value("data.frames[place()]") == 4
    counts = {}
    for key, mode in (("2", "side"), ("3", "difference"), ("4", "flicker"), ("1", "wipe")):
        page.press(key)
        page.wait_for(f"mode === '{mode}'")
        counts[mode] = page.value("document.querySelectorAll('#stage canvas').length")
    assert counts == {"side": 3, "difference": 2, "flicker": 2, "wipe": 1}
    assert page.problems == []


def test_the_difference_of_a_clip_and_itself_is_black(page):
    page.press("3")
    page.wait_for("mode === 'difference'")
    negative, same = (max(colour) for colour in page.value(MIDDLES))
    assert same < 12 < negative
    assert page.problems == []
