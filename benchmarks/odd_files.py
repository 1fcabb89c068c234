"""Odd and broken files, each read by the decoding process and copied as MP4: a table of what happened.

    python benchmarks/odd_files.py ../shared/data/robustness

Nothing may crash, hang, or end with a fault of ours, and no file may stand under the name of a copy that failed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kinopaint.errors import InternalError, KinopaintError
from kinopaint.text import shown
from kinopaint.video import Limits, open_clip, open_writer


def copied(path: Path, target: Path, *, allow_damaged: bool = False) -> str:
    """What happened, in a few words."""
    try:
        with (
            open_clip(path, allow_damaged=allow_damaged, limits=Limits(seconds=30)) as clip,
            open_writer(target, source=clip.info, overwrite=True) as writer,
        ):
            for frame in clip:
                writer.write(frame.image, frame)
            written = writer.finish()
        info = clip.info
        notes = "; ".join(dict.fromkeys((*clip.warnings, *written.warnings)))
        told = f"{written.frames} frames of {info.width}x{info.height} delivered{': ' if notes else ''}{notes}"
        target.unlink()
    except KinopaintError as error:
        told = f"{'FAULT ' if isinstance(error, InternalError) else ''}{error.code}: {error.what}"
        if target.exists():
            told = f"FAULT a file stands under the final name; {told}"
    return shown(told).replace("|", "\\|")


def main() -> int:
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(each for each in Path(sys.argv[1]).iterdir() if each.is_file()):
            told = copied(path, Path(folder) / "copy.mp4")
            if told.startswith(("KP-INPUT-TRUNCATED", "KP-INPUT-DAMAGED")):
                told += f"; with `--allow-damaged`: {copied(path, Path(folder) / 'copy.mp4', allow_damaged=True)}"
            faults += "FAULT" in told
            print(f"| {path.name} | {told} |", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
