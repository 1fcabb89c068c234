"""What a result was made from, written into the result: settings, seed, hashes, versions, device, source."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.errors import OutputError
from kinopaint.text import to_json
from kinopaint.video.sequence import find_sequence

if TYPE_CHECKING:
    from kinopaint.api import Ready

WHOLE = 256 * 2**20  # bytes; larger files are known by their length, beginning and end
EDGE = 16 * 2**20
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "av", "opencv-python-headless", "numpy")


def fingerprint(path: Path) -> str:
    """`sha256:…` of a file, or for more than 256 MiB `sha256-edges:…` of its length, first and last 16 MiB.

    Of an image sequence `sha256-files:…` of the names and contents of its pictures.
    """
    if sequence := find_sequence(path):
        whole = hashlib.sha256()
        for picture in sequence.files:
            whole.update(f"{picture.name}\n{fingerprint(picture)}\n".encode())
        return f"sha256-files:{whole.hexdigest()}"
    length = path.stat().st_size
    with path.open("rb") as file:
        if length <= WHOLE:
            return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
        digest = hashlib.sha256(str(length).encode())
        digest.update(file.read(EDGE))
        file.seek(-EDGE, 2)
        digest.update(file.read(EDGE))
    return f"sha256-edges:{digest.hexdigest()}"


def versions() -> dict[str, str]:
    """Versions of Kinopaint, Python and the libraries that can change a pixel."""
    from kinopaint import __version__

    found = {"kinopaint": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # installed under another name, such as opencv-python
            continue
    return found


def make_recipe(ready: Ready) -> dict[str, Any]:
    """Everything that decides the result, as plain values for JSON; names of files without their folders."""
    from kinopaint.models import weight_hashes

    job, parts, sizes = ready.job, ready.parts, ready.sizes
    fields = {field.name: getattr(ready.method, field.name) for field in dataclasses.fields(ready.method)}
    plain = (bool, int, float, str, type(None))
    return {
        "settings": {
            "prompt": job.prompt.text,
            "negative_prompt": job.prompt.negative,
            "method": job.method_name,
            "preset": ",".join(job.presets),
            "seed": job.seed,
            **{name: value if isinstance(value, plain) else str(value) for name, value in fields.items()},
            "start": None if job.selection.start is None else str(job.selection.start),
            "end": None if job.selection.end is None else str(job.selection.end),
            "every": job.selection.every,
            "fps": None if job.fps is None else str(job.fps),
            "size": job.size,
            "work_size": job.work_size,
            "shots": job.shots
            if isinstance(job.shots, str)
            else [mark if isinstance(mark, int) else float(mark) for mark in job.shots],
            "codec": job.codec,
            "quality": job.quality,
            "no_audio": job.no_audio,
            "allow_damaged": job.allow_damaged,
        },
        "given": sorted(job.given),
        "model": {
            "name": job.model if job.model == "mini" or parts.revision else Path(job.model).name,
            "revision": parts.revision,
            "licence": parts.licence,
            "hashes": weight_hashes(parts.path) if parts.path else {},
        },
        "cuts": list(ready.cuts),
        "sizes": {name: list(getattr(sizes, name)) for name in ("source", "work", "padded", "output")},
        "versions": versions(),
        "device": str(parts.device),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "source": {
            "name": _name(job.input),
            "bytes": ready.clip.info.size_bytes,
            "fingerprint": fingerprint(job.input),
        },
        "fallbacks": [],
    }


def _name(path: Path) -> str:
    """The last part of the input's path; of numbered pictures the last two, because their folder is what has a name."""
    absolute = path.absolute()
    pattern = find_sequence(path) and not path.is_dir()
    return f"{absolute.parent.name}/{absolute.name}" if pattern else absolute.name


def write_sidecar(path: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe as JSON, whole or not at all. Raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(to_json(recipe, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            "KP-OUTPUT-WRITE",
            f"the recipe cannot be written: {error.strerror}",
            where=str(path),
            fix="check the folder",
        ) from error
