"""What a result was made from, written into the result: settings, seed, hashes, versions, device, source."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.errors import OutputError

if TYPE_CHECKING:
    from kinopaint.api import Ready

WHOLE = 256 * 2**20  # bytes; larger files are known by their length, beginning and end
EDGE = 16 * 2**20
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "av", "opencv-python-headless", "numpy")


def fingerprint(path: Path) -> str:
    """`sha256:…` of a file, or for more than 256 MiB `sha256-edges:…` of its length, first and last 16 MiB."""
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
            "size": job.size,
            "work_size": job.work_size,
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
        "sizes": {name: list(getattr(sizes, name)) for name in ("source", "work", "padded", "output")},
        "versions": versions(),
        "device": str(parts.device),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "source": {
            "name": job.input.name,
            "bytes": job.input.stat().st_size,
            "fingerprint": fingerprint(job.input),
        },
        "fallbacks": [],
    }


def write_sidecar(path: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe as JSON, whole or not at all. Raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(recipe, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            "KP-OUTPUT-WRITE",
            f"the recipe cannot be written: {error.strerror}",
            where=str(path),
            fix="check the folder",
        ) from error
