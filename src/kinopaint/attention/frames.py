"""Keys and values from other frames: frames that look at the same picture paint it alike.

    where(is_self & in_decoder, from_frames(first, previous))       # Pix2Video
    where(is_self, from_frames(every))                              # every frame sees all of the window
    where(is_self, from_tokens(indices_at))                         # only some tokens of the window, as in FRESCO

Queries stay the frame's own, and branches stay apart. A choice names the sources of a frame by their places in the
window; several choices are joined along the tokens. A frame that is named twice changes nothing, if all of a frame's
sources are: doubled keys do not change a softmax average.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinopaint.engine.interventions import AttentionCall, Intervention, Proceed
from kinopaint.errors import SettingsError

FrameChoice = Callable[[int, int], Sequence[int]]  # (place of a frame, number of frames) -> places of its sources
Tokens = Float[Tensor, "branch frame head token channel"]
TokenIndices = Int[Tensor, "token"]  # frame * tokens per frame + token, row by row


def itself(frame: int, count: int) -> Sequence[int]:
    """Ordinary self-attention."""
    return (frame,)


def first(frame: int, count: int) -> Sequence[int]:
    return (0,)


def previous(frame: int, count: int) -> Sequence[int]:
    """The frame before; the first one, which has none, sees itself."""
    return (max(frame - 1, 0),)


def every(frame: int, count: int) -> Sequence[int]:
    return range(count)


def anchors(*places: int) -> FrameChoice:
    """The frames at these places, of which negative ones count from the end.

    The choice raises SettingsError (KP-SETTING-FRAMES) for a place that the window has not.
    """

    def choose(frame: int, count: int) -> Sequence[int]:
        if not all(-count <= place < count for place in places):
            raise SettingsError(
                "KP-SETTING-FRAMES",
                f"frames {places} are not all in a window of {count}",
                where="anchors",
                fix=f"name places from {-count} to {count - 1}",
            )
        return [place % count for place in places]

    return choose


def key_pair(*keys: int) -> FrameChoice:
    """The two nearest key frames: at or before a frame, and at or after it; beyond the outermost, that one twice."""

    def choose(frame: int, count: int) -> Sequence[int]:
        known = anchors(*keys)(frame, count)
        earlier, later = [key for key in known if key <= frame], [key for key in known if key >= frame]
        return (max(earlier, default=min(known)), min(later, default=max(known)))

    return choose


def source_frames(count: int, choose: Sequence[FrameChoice]) -> list[list[int]]:
    """For each frame the places of its sources, in the order of the choices."""
    return [[place for each in choose for place in each(frame, count)] for frame in range(count)]


def gather_frames(
    tokens: Tokens, sources: Sequence[Sequence[int]]
) -> Float[Tensor, "branch frame head source_token channel"]:
    """The tokens of each frame's sources, one source after another.

    Where all frames have the same sources, these are one copy that is expanded along the frames.
    """
    if all(row == sources[0] for row in sources):
        return _for_all(torch.cat([tokens[:, place] for place in sources[0]], dim=-2), len(sources))
    gathered = tokens[:, torch.tensor(sources, device=tokens.device)]  # branch frame source head token channel
    return gathered.transpose(2, 3).flatten(3, 4)


def from_frames(*choose: FrameChoice) -> Intervention:
    """Each frame attends to the keys and values of the frames that are chosen for it, and to no others."""

    def attend(call: AttentionCall, proceed: Proceed) -> Tensor:
        sources = source_frames(call.frame_count, choose)
        return proceed(replace(call, key=gather_frames(call.key, sources), value=gather_frames(call.value, sources)))

    return attend


def from_tokens(indices_at: Callable[[int, int], TokenIndices]) -> Intervention:
    """All frames attend to one set of tokens of the window, which may lie in any frame: those that `indices_at` names
    for a map's height and width.
    """

    def attend(call: AttentionCall, proceed: Proceed) -> Tensor:
        indices, frames = indices_at(call.site.height, call.site.width), call.frame_count

        def some(tokens: Tensor) -> Tensor:
            in_a_row = tokens.transpose(1, 2).flatten(2, 3)  # branch head (frame token) channel
            return _for_all(in_a_row[:, :, indices.to(tokens.device)], frames)

        return proceed(replace(call, key=some(call.key), value=some(call.value)))

    return attend


def _for_all(shared: Float[Tensor, "branch head token channel"], frames: int) -> Tokens:
    return shared[:, None].expand(-1, frames, -1, -1, -1)
