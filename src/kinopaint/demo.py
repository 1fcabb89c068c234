"""A short clip that looks like footage, made from a photograph: `python -m kinopaint.demo clip.mp4`.

The photographs come inside the wheel of scikit-image (the extra `demo`), both CC0; docs/CREDITS.md names who took
them. A camera held by hand moves over the picture: it pans, pushes in, rolls a little and breathes. What stands out
of the table is nearer and moves more (parallax), and each frame is the mean of several instants (motion blur of a
180 degree shutter). A soft generated sound goes along, so that a result can show that sound survives.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinopaint.errors import KinopaintError, OutputError, SettingsError, did_you_mean

SIZE = (512, 256)  # width, height
RATE = Fraction(24)
FRAMES = 48
AUDIO_RATE = 48_000
SHUTTER, INSTANTS = 0.5, 5  # share of the frame time that the shutter is open; moments averaged over it


@dataclass(frozen=True)
class Scene:
    """A photograph and the path of the camera over it; positions and sizes in pixels of the photograph."""

    photo: str
    start: tuple[float, float]  # centre of the view at the first frame
    end: tuple[float, float]
    width: tuple[float, float]  # width of the view at the first and the last frame
    near: tuple[
        tuple[float, float, float, float, float], ...
    ]  # ellipses: x, y, radius x, radius y, height above the rest


SCENES = {
    "coffee": Scene(
        "coffee.png", (277, 168), (305, 205), (524, 466), ((276, 229, 205, 160, 0.3), (290, 115, 122, 105, 0.7))
    ),
    "cat": Scene(
        "chelsea.png", (219, 122), (235, 166), (420, 386), ((225, 150, 150, 170, 0.6), (262, 205, 60, 60, 0.4))
    ),
}


def load_photo(name: str) -> NDArray[np.uint8]:
    """The photograph as RGB (height, width, 3). Raises SettingsError where scikit-image is not installed."""
    import cv2

    spec = importlib.util.find_spec("skimage")  # its files are wanted, not its code
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            "KP-EXTRA-MISSING",
            "the demo clip is made from a photograph inside scikit-image, which is not installed",
            fix="pip install 'kinopaint[demo]'",
        )
    data = (Path(spec.submodule_search_locations[0]) / "data" / name).read_bytes()
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise SettingsError(
            "KP-EXTRA-MISSING", f"{name} of scikit-image cannot be read", fix="install scikit-image again"
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _heights(scene: Scene, shape: tuple[int, int]) -> NDArray[np.float32]:
    """How near each pixel is, 0 (the table) to about 1, smooth so that the parallax tears nothing."""
    import cv2

    heights = np.zeros(shape, np.float32)
    for x, y, radius_x, radius_y, height in scene.near:
        layer = np.zeros(shape, np.float32)
        cv2.ellipse(layer, (round(x), round(y)), (round(radius_x), round(radius_y)), 0, 0, 360, (height,), -1)
        heights += cv2.GaussianBlur(layer, (0, 0), radius_x / 6)
    return heights


def render(
    scene: str = "coffee", *, frames: int = FRAMES, size: tuple[int, int] = SIZE, rate: Fraction = RATE
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a scene, RGB uint8 (height, width, 3). The same arguments give the same frames."""
    import cv2

    if scene not in SCENES:
        raise SettingsError("KP-SETTING-UNKNOWN", f"there is no scene {scene!r}", fix=did_you_mean(scene, SCENES))
    plan = SCENES[scene]
    photo = load_photo(plan.photo)
    heights = _heights(plan, photo.shape[:2])
    width, height = size
    columns, rows = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    grid = np.stack([columns, rows]).astype(np.float32) / width  # view coordinates, 1 = the view's width

    def view(seconds: float) -> NDArray[np.float32]:
        """The picture at one instant."""
        share = min(max(seconds * float(rate) / (max(frames, FRAMES) - 1), 0.0), 1.0)  # a short clip is its beginning
        eased = share * share * (3 - 2 * share)
        # A hand: a slow sway and a faster, smaller tremor; amplitudes in photo pixels, no two periods alike.
        sway_x = 3.0 * np.sin(2 * np.pi * 0.53 * seconds + 0.4) + 0.9 * np.sin(2 * np.pi * 1.71 * seconds)
        sway_y = 2.4 * np.sin(2 * np.pi * 0.67 * seconds + 1.9) + 0.8 * np.sin(2 * np.pi * 2.03 * seconds + 0.7)
        centre_x = plan.start[0] + (plan.end[0] - plan.start[0]) * eased + sway_x
        centre_y = plan.start[1] + (plan.end[1] - plan.start[1]) * eased + sway_y
        span = plan.width[0] + (plan.width[1] - plan.width[0]) * eased
        span *= 1 + 0.004 * np.sin(2 * np.pi * 0.9 * seconds)  # the lens breathes
        roll = np.deg2rad(-1.2 + 2.2 * eased + 0.25 * np.sin(2 * np.pi * 0.61 * seconds))
        x = centre_x + span * (np.cos(roll) * grid[0] - np.sin(roll) * grid[1])
        y = centre_y + span * (np.sin(roll) * grid[0] + np.cos(roll) * grid[1])
        near = cv2.remap(heights, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        offset_x, offset_y = 14 * (eased - 0.5) + 0.8 * sway_x, 8 * (eased - 0.5) + 0.8 * sway_y
        x, y = x + near * offset_x, y + near * offset_y
        picture = cv2.remap(
            photo, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return picture.astype(np.float32)

    for index in range(frames):
        moments = (index + SHUTTER * (k / INSTANTS - 0.5) for k in range(INSTANTS))
        picture = sum((view(moment / float(rate)) for moment in moments), np.zeros((height, width, 3), np.float32))
        yield np.clip(picture / INSTANTS + 0.5, 0, 255).astype(np.uint8)


def sound(seconds: float) -> NDArray[np.float32]:
    """A quiet chord over a murmur, stereo (2, samples) in [-1, 1]; made up, so nobody's rights are touched."""
    count = round(seconds * AUDIO_RATE)
    time = np.arange(count) / AUDIO_RATE
    murmur = np.cumsum(np.random.default_rng(0).standard_normal((2, count)), axis=1)
    murmur -= np.stack([np.convolve(row, np.ones(2400) / 2400, mode="same") for row in murmur])
    chord = sum(
        np.sin(2 * np.pi * pitch * time + phase) for pitch, phase in ((110, 0), (164.8, 1), (220, 2), (277.2, 3))
    )
    swell = np.sin(np.pi * np.clip(time / max(seconds, 1e-9), 0, 1)) ** 0.5
    return np.asarray((0.05 * chord + 0.02 * murmur / (np.abs(murmur).max() + 1e-9)) * swell, np.float32)


def write_clip(path: Path, scene: str = "coffee", *, frames: int = FRAMES) -> Path:
    """Render a scene into an MP4 (H.264, BT.709, AAC); nothing stands under `path` until it is whole.

    Raises OutputError if `path` exists or cannot be written.
    """
    import av
    from av.video.reformatter import Colorspace

    if path.exists():
        raise OutputError("KP-OUTPUT-EXISTS", "the file exists already", where=str(path), fix="choose another name")
    part = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            video = container.add_stream("libx264", rate=RATE, options={"crf": "14", "preset": "medium", "bf": "0"})
            video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
            context = video.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1  # BT.709
            audio = container.add_stream("aac", rate=AUDIO_RATE, layout="stereo")
            for index, picture in enumerate(render(scene, frames=frames)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709
                )
                frame.pts, frame.time_base = index, 1 / RATE
                container.mux(video.encode(frame))
            container.mux(video.encode())
            samples = av.AudioFrame.from_ndarray(sound(float(frames / RATE)), format="fltp", layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = AUDIO_RATE, 0, Fraction(1, AUDIO_RATE)
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            "KP-OUTPUT-WRITE", str(error), where=str(path), fix="check the folder and its free space"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kinopaint.demo", description="Make the demo clip.")
    parser.add_argument("output", type=Path, help="the clip to make, .mp4")
    parser.add_argument("--scene", default="coffee", help=f"one of {', '.join(SCENES)} (default: coffee)")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help=f"length in frames at 24 per second (default: {FRAMES})"
    )
    given = parser.parse_args(argv)
    try:
        write_clip(given.output, given.scene, frames=given.frames)
    except KinopaintError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
