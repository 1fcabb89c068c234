"""The generator's own renderings as a result: what the embedded model was trained to imitate.

The generator is no part of the package; it is importable in a checkout (`python -m kinopaint bench` in its root).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kinopaint.errors import SettingsError
from kinopaint.video import Selection, open_clip, open_writer


def write_rendering(source: Path, result: Path, prompt: str, settings: dict[str, Any], seed: int = 0) -> None:
    """Render each frame in the medium that the prompt names, all with one seed.

    Raises SettingsError (KP-BENCH-RENDERING) without the generator, and for a prompt or medium that it cannot do here.
    """
    try:
        from training.renderings import render
        from training.words import MEDIA
    except ImportError:
        raise SettingsError(
            "KP-BENCH-RENDERING",
            "the generator of renderings is not here",
            fix="run `python -m kinopaint bench` in the root of a checkout, or set renderings = false",
        ) from None
    name = next((medium for medium, phrases in MEDIA.items() if prompt.lower() in (medium, *phrases)), None)
    if name is None:
        raise SettingsError(
            "KP-BENCH-RENDERING", f"the generator has no medium {prompt!r}", fix="see training/words.py"
        )
    part = {key: settings[key] for key in ("start", "end", "every") if key in settings}
    kept = Selection.of(**part)
    with (
        open_clip(source, **part) as clip,
        open_writer(result, source=clip.info, audio=False, overwrite=True, selection=kept) as writer,
    ):
        for frame in clip:
            try:
                drawn = render(frame.image.astype(np.float32) / 255, name, seed, {})
            except KeyError as missing:
                raise SettingsError(
                    "KP-BENCH-RENDERING", f"{name} is drawn after paintings ({missing}), which are not shipped"
                ) from None
            writer.write(np.rint(drawn * 255).astype(np.uint8), frame)
        writer.finish()
