"""The page: whole, within its size, true to the clips, and harmless whatever the clips are called."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from html.parser import HTMLParser

import av
import numpy as np
import pytest
import torch
from tests.clips import write_clip

from kinopaint.errors import InternalError
from kinopaint.evaluation import evaluate_all
from kinopaint.flow import FlowPair
from kinopaint.report import page, write_report
from kinopaint.report.flicker_map import FULL, change_along_motion, flicker_map
from kinopaint.report.proxy import PIXELS, Proxy, Tiles
from kinopaint.video import open_clip


class Reader(HTMLParser):
    """Tags and texts of a page, scripts and data apart."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self._inside = self.policy = ""

    def handle_starttag(self, tag, attributes):
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attributes)["content"]
        self.tags.append(tag)
        self._inside = tag
        if tag == "script":
            self.scripts.append("")
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._inside = ""


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader, json.loads(reader.scripts[0])


def film_of(reader):
    (address,) = [address for address in reader.addresses if address.startswith("data:video")]
    return base64.b64decode(address.split(",", 1)[1])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return [write_clip(folder / name, frames=14, sound=False) for name in ("source.mp4", "a.mp4", "b.mp4")]


@pytest.fixture(scope="module")
def pair(clips, tmp_path_factory):
    """The page of two results, read."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_report(evaluate_all(clips[0], clips[1:], prompt="oil"), path)
    return read(path)


def test_the_page_is_complete(pair):
    reader, data = pair
    assert all(address.startswith("data:") for address in reader.addresses)
    assert not {"link", "iframe", "object", "base"} & set(reader.tags)
    assert data["names"] == ["a.mp4", "b.mp4"]
    assert data["frames"] == list(range(14))
    assert {about["name"] for about in data["curves"]} >= {"e_warp", "ssim", "psnr", "sharpness_ratio"}


def test_the_film_holds_each_frame_of_all_clips(pair, clips):
    reader, data = pair
    tiles = data["tiles"]
    with av.open(io.BytesIO(film_of(reader))) as container:
        sheets = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(sheets) == 14
    with open_clip(clips[0]) as source:
        for frame, sheet in zip(source, sheets, strict=True):
            for tile in range(3):  # source and two results, which are the same here
                x = tile % tiles["columns"] * tiles["cell"][0]
                y = tile // tiles["columns"] * tiles["cell"][1]
                shown = sheet[y : y + tiles["height"], x : x + tiles["width"]].astype(float)
                assert np.abs(shown - frame.image).mean() < 8


HOSTILE = "<script>alert(1)</script> </script><img src=x onerror=alert(2)> \"'&{{7*7}}"


def test_names_and_prompts_cannot_become_code(clips, tmp_path):
    """A file may be called anything; so may a title, which becomes a prompt, a name or a note."""
    source = tmp_path / '<img src=x onerror=alert(3)>"&.mp4'
    result = tmp_path / "</script><script>alert(4)<\\script>'.mp4".replace("/", "\u2215")
    for path in (source, result):
        path.write_bytes(clips[0].read_bytes())
    with pytest.warns(UserWarning, match="reads only the first 48 tokens"):  # the title is that long
        (found,) = evaluate_all(source, [result], prompt=HOSTILE)
    path = tmp_path / "page.html"
    write_report([found], path)
    reader, data = read(path)
    assert reader.tags.count("script") == 2  # data and code
    assert reader.handlers == []
    assert all(address.startswith("data:") for address in reader.addresses)
    assert data["names"] == [result.name]
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "onerror=alert(2)&gt;" in text  # shown as text
    assert "{{7*7}}" in text


def test_the_policy_admits_no_other_script_and_no_address(pair):
    reader, _ = pair
    digest = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in reader.policy
    assert "default-src 'none'" in reader.policy
    assert "http" not in reader.policy


def test_an_unfit_page_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 10)
    with pytest.raises(InternalError, match="more than 10"):
        page.write_page(tmp_path / "page.html", "x" * 11)
    assert list(tmp_path.iterdir()) == []


def test_noise_does_not_make_the_film_larger_than_its_limit():
    tiles = Tiles.of((640, 360), 3)
    random = np.random.default_rng(0)
    seconds, limit = 2.0, 150_000
    proxy = Proxy(tiles, 12, seconds, limit)
    for index in range(24):
        pictures = [random.integers(0, 256, (tiles.height, tiles.width, 3), np.uint8) for _ in range(3)]
        proxy.add(pictures, index / 12, 1 / 12)
    assert 20_000 < len(proxy.finish()) <= limit


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (48, 32), (4000, 500), (1, 1)])
@pytest.mark.parametrize("count", [3, 9, 17])
def test_tiles_are_small_even_and_apart(size, count):
    tiles = Tiles.of(size, count)
    assert min(tiles.width, tiles.height) <= 360
    assert tiles.width * tiles.height * count <= PIXELS * 1.05 or tiles.width <= 2
    width, height = tiles.whole
    assert width % 16 == height % 16 == 0
    assert max(width, height) <= 4096
    pictures = [np.full((tiles.height, tiles.width, 3), 10 * place, np.uint8) for place in range(count)]
    assert tiles.laid(pictures).shape == (height, width, 3)


def test_the_flicker_map_is_black_where_a_result_changes_no_more_than_its_source():
    still = torch.zeros(1, 2, 8, 8)
    pair = FlowPair(still, still)
    now, before = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.5)
    changed = now.clone()
    changed[..., 2:4, 2:4] += 2 * FULL
    own, change = change_along_motion(now, before, pair), change_along_motion(changed, before, pair)
    drawn = flicker_map(change, own)
    assert drawn[3, 3].min() > 100
    assert drawn[0, 0].max() < 10
    assert flicker_map(change, change).max() < 10


def test_a_long_clip_shows_its_worst_part_only(tmp_path):
    source = write_clip(tmp_path / "long.mp4", frames=96, sound=False)  # 8 s
    (found,) = evaluate_all(source, [source], short_side=16)
    path = tmp_path / "page.html"
    write_report([found], path, longest=2.0)
    reader, data = read(path)
    assert len(data["frames"]) <= 24
    assert len(data["curves"][0]["series"][0]) == 96
    with av.open(io.BytesIO(film_of(reader))) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    tiles = data["tiles"]
    with open_clip(source) as clip:
        pictures = {frame.index: frame.image for frame in clip if frame.index in data["frames"]}
    for number, sheet in zip(data["frames"], shown, strict=True):
        assert np.abs(sheet[: tiles["height"], : tiles["width"]].astype(float) - pictures[number]).mean() < 8
