"""kinopaint doctor"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import util

from kinopaint.cli.options import Parser

ENCODERS = {
    "h264": "libx264",
    "h265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "gif": "gif",
    "png": "png",
}
EXTRAS = {"demo": ("skimage",), "test": ("pytest", "beartype")}
Line = tuple[str, bool, str]  # what was looked at, whether it works, what was found


def parser(words: Sequence[str]) -> Parser:
    made = Parser("doctor", description="Say what works on this machine: devices, codecs, models, extras.")
    made.add_argument("--json", action="store_true", help="as one JSON object (default: as a table)")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def examine() -> Iterator[Line]:
    from kinopaint.recipe import versions

    found = versions()
    yield (
        "system",
        True,
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {found.pop('python')}",
    )
    yield "versions", True, ", ".join(f"{name} {version}" for name, version in found.items())
    yield from _devices()
    yield from _codecs()
    yield from _model()
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if util.find_spec(name) is None]
        yield f"extra {extra}", not missing, "installed" if not missing else f"pip install 'kinopaint[{extra}]'"


def _devices() -> Iterator[Line]:
    import torch

    yield "device cpu", True, f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield f"device cuda:{index}", True, f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    else:
        yield "device cuda", False, "none found, or this torch is built without it"
    if platform.system() == "Darwin":
        works = torch.backends.mps.is_available()
        yield "device mps", works, "available" if works else "not available"


def _codecs() -> Iterator[Line]:
    import av

    for name, encoder in ENCODERS.items():
        try:
            av.codec.Codec(encoder, "w")
            yield f"codec {name}", True, encoder
        except (av.codec.codec.UnknownCodecError, ValueError):
            yield f"codec {name}", False, f"this PyAV has no {encoder}"


def _model() -> Iterator[Line]:
    from kinopaint.errors import KinopaintError
    from kinopaint.models import load_model, mini_path

    try:
        load_model("mini", device="cpu")
    except KinopaintError as error:
        yield "model mini", False, f"{error.code}: {error.what}"
    else:
        size = sum(file.stat().st_size for file in mini_path().rglob("*") if file.is_file())
        yield "model mini", True, f"loads, {size / 1e6:.0f} MB"


def run(given: argparse.Namespace) -> int:
    lines = list(examine())
    if given.json:
        print(json.dumps([{"name": name, "works": works, "found": found} for name, works, found in lines], indent=2))
    else:
        for name, works, found in lines:
            print(f"{'ok' if works else '--':<3} {name:<13} {found}")
    return 0
