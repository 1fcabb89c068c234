"""Where training pictures come from: photographs, frames of real clips, paintings, and the split between them.

Photographs are split by *photograph* (all crops of one share its side). Files under share-alike licences are left
out, groceries and garments are at most a tenth. Frames are taken from clips because people and motion blur are rare
among the photographs.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

HELD_OUT_CLIPS = {"sam2_coffee", "man_skiing", "flower", "cockatoo", "intel_store_aisle"}
NARROW = {"grocery", "clothing"}
SHORT, LONG = 288, 448


@dataclass(frozen=True)
class Picture:
    name: str
    path: Path
    time: float | None = None  # seconds, for a frame of a clip
    held_out: bool = False

    def load(self) -> np.ndarray:
        """RGB float32 in [0, 1], shorter side `SHORT`, longer side at most `LONG`."""
        if self.time is None:
            image = cv2.cvtColor(cv2.imread(str(self.path)), cv2.COLOR_BGR2RGB)
            edge = 6  # scans carry dark borders that every line extractor would draw as a frame
            image = image[edge:-edge, edge:-edge]
        else:
            image = frame_at(self.path, self.time)
        scale = SHORT / min(image.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
        image = image[: LONG if image.shape[0] > LONG else None, : LONG if image.shape[1] > LONG else None]
        return np.ascontiguousarray(image, np.float32) / 255


def frame_at(path: Path, time: float) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(Fraction(time) / stream.time_base), stream=stream)
        image = None
        for frame in container.decode(stream):
            image = frame
            if frame.time >= time:
                break
        return image.to_ndarray(format="rgb24")


def in_validation(photograph: str) -> bool:
    return int(hashlib.sha256(photograph.encode()).hexdigest(), 16) % 12 == 0


def photographs(data: Path) -> Iterator[Picture]:
    narrow: dict[str, int] = {}
    with open(data / "photos" / "SOURCES.csv", newline="") as file:
        for row in csv.DictReader(file):
            folder = row["file"].split("/")[0]
            if (
                "-SA" in row["licence"]
                or folder in ("fedora", "mate", "solus", "kaleidoscope")
                or not row["file"].endswith("jpg")
            ):
                continue
            photograph = row["file"].rsplit(".", 1)[0].split("-crop")[0]
            if folder in NARROW:
                narrow[folder] = narrow.get(folder, 0) + 1
                if narrow[folder] > 50:
                    continue
            held = folder == "kodak" or in_validation(photograph)
            yield Picture(row["file"].rsplit(".", 1)[0].replace("/", "_"), data / "photos" / row["file"], held_out=held)


def clip_frames(data: Path, each: int = 14) -> Iterator[Picture]:
    import av

    for path in sorted((data / "videos").iterdir()):
        if path.suffix not in (".mp4", ".webm", ".gif"):
            continue
        with av.open(str(path)) as container:
            duration = container.duration / 1e6 if container.duration else 4.0
        for i in range(each):
            time = duration * (i + 0.5) / each
            yield Picture(f"{path.stem}_{i:02d}", path, time, path.stem in HELD_OUT_CLIPS)


def pictures(data: Path) -> list[Picture]:
    return [*photographs(data), *clip_frames(data)]


def paintings(data: Path) -> dict[str, list[np.ndarray]]:
    folders: dict[str, list[np.ndarray]] = {}
    for path in sorted((data / "paintings").glob("*/*.jpg")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        folders.setdefault(path.parent.name, []).append(image.astype(np.float32) / 255)
    return folders
