"""Pictures in, pictures out: the engine and a model put together, without files."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinopaint.engine.components import Components
from kinopaint.engine.run import OnProgress, stylize_windows
from kinopaint.errors import InputError
from kinopaint.models.loading import load_model
from kinopaint.models.pixels import padded, to_pictures, to_tensor
from kinopaint.types import Clip, Frame, Prompt

Picture = NDArray[np.uint8]


def restyle_pictures(
    pictures: Iterable[Picture],
    prompt: Prompt,
    *,
    method: Any,
    parts: Components,
    seed: int = 0,
    count: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Picture]:
    """Yield each picture restyled, in order, as soon as its window is done.

    Pictures are RGB (height, width, 3) of any size, all of one; sides that are no multiples of the model's factor are
    padded and cropped back. Only one window is held. `count` is the number of pictures, if known, for `on_progress`.
    Raises InputError (KP-INPUT-FRAMES) for pictures of another kind or of changing size, and ModelError
    (KP-RESULT-NONFINITE) if the model gives values that are not finite, in float32 too.
    """
    source = iter(pictures)
    first = next(source, None)
    if first is None:
        return
    size = _checked(first, 0, None).shape[:2]
    (height, width), factor = size, parts.autoencoder.factor
    clip = Clip(height + -height % factor, width + -width % factor, count)
    frames: Iterator[Frame] = (
        padded(to_tensor(_checked(picture, number, size)), factor)
        for number, picture in enumerate(chain([first], source))
    )
    seeded = replace(parts, seed=seed)

    def exact() -> Components:
        model = parts.path if parts.path is not None else parts.name
        return replace(load_model(model, device=str(parts.device), dtype="float32"), name=parts.name, seed=seed)

    for _, result in stylize_windows(method, frames, clip, prompt, seeded, on_progress=on_progress, exact=exact):
        yield from to_pictures(result[..., :height, :width])


def _checked(picture: Any, number: int, size: tuple[int, ...] | None) -> Picture:
    if not (
        isinstance(picture, np.ndarray)
        and picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[2] == 3
        and picture.size
    ):
        kind = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise InputError(
            "KP-INPUT-FRAMES", f"a frame is {kind}; expected uint8 (height, width, 3), RGB", where=f"frame {number}"
        )
    if size is not None and picture.shape[:2] != size:
        raise InputError(
            "KP-INPUT-FRAMES",
            f"a frame is {picture.shape[1]}x{picture.shape[0]}, the first one was {size[1]}x{size[0]}",
            where=f"frame {number}",
            fix="resize the frames to one size",
        )
    return picture
