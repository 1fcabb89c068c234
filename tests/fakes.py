"""Methods that need no network: what surrounds a method is tested in milliseconds."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import kinopaint
from kinopaint.methods import _registry
from kinopaint.methods._settings import setting
from kinopaint.types import WindowPlan


@dataclass(frozen=True)
class TrailCarry:
    color: Float[Tensor, "3 1 1"]
    count: int


@dataclass(frozen=True)
class Trail:
    """Chained: each frame is mixed with the mean colour of the painted one before it, and darkened."""

    shade: float = setting(0.9, "darkens all frames")
    windows: WindowPlan = field(default=WindowPlan(2))

    presets: ClassVar[dict] = {}
    painted: ClassVar[list[int]] = []  # the frame numbers that were painted, in this process
    interrupt_at: ClassVar[int | None] = None  # the frame number before which somebody presses Ctrl-C

    def prepare(self, clip, prompt, parts):
        return parts.dtype

    def start(self, shared):
        return None

    def stylize(self, window, shared, carry, parts):
        results = []
        for number, frame in zip(window.fresh_numbers, window.frames[window.fresh], strict=True):
            if number == type(self).interrupt_at:
                raise KeyboardInterrupt
            self.painted.append(number)
            color = frame if carry is None else carry.color
            mixed = (0.7 * frame + 0.3 * color) * self.shade
            carry = TrailCarry(mixed.mean((1, 2), keepdim=True), number if carry is None else carry.count + 1)
            results.append(mixed)
        return torch.stack(results), carry


@dataclass(frozen=True)
class Fragile(Trail):
    """Gives values that are not finite in less than float32, from frame 2 on; the precision shows in the result."""

    def stylize(self, window, shared, carry, parts):
        frames, carry = super().stylize(window, shared, carry, parts)
        if parts.dtype == torch.float32:
            return frames * 0.8, carry
        return frames * (float("nan") if window.index else 1.0), carry


def register() -> None:
    """Make the methods known to this process, for scripts."""
    _registry.BUILT_IN.update({"trail": "tests.fakes:Trail", "fragile": "tests.fakes:Fragile"})


@pytest.fixture
def trail(monkeypatch):
    """The class of the method `trail`, registered for one test, with nothing painted yet."""
    for name, kind in {"trail": "Trail", "fragile": "Fragile"}.items():
        monkeypatch.setitem(_registry.BUILT_IN, name, f"tests.fakes:{kind}")
    monkeypatch.setattr(Trail, "painted", [])
    monkeypatch.setattr(Trail, "interrupt_at", None)
    return Trail


@pytest.fixture
def fast(in_this_process, monkeypatch, model_folder):
    """No decoding and no encoding process and no loading for each run: this is not what is tested here."""
    from kinopaint import api
    from kinopaint.video import reader

    loaded = {}

    def load(folder, *, dtype, **others):
        if folder != str(model_folder):
            return kinopaint.load_model(folder, dtype=dtype, **others)
        if dtype not in loaded:
            loaded[dtype] = kinopaint.load_model(folder, dtype=dtype, **others)
        return loaded[dtype]

    monkeypatch.setattr(api, "open_clip", reader.open_here)
    monkeypatch.setattr(api, "load_model", load)
