"""How much is computed at once: the load that a run puts on memory, fixed at its start, and less of it if need be."""

import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from kinopaint.engine.components import Components

TILE = 256  # pixels of a side; smaller tiles show
Part = TypeVar("Part")


@dataclass(frozen=True)
class Load:
    """At most so many pictures in one call of the network, and frames in one of the autoencoder; with `tile`, the
    autoencoder works on overlapping tiles of so many pixels a side. Another load may change results by rounding, and
    tiles a little more.
    """

    samples: int = 24
    frames: int = 4
    tile: int = 0

    def smaller(self) -> "Load | None":
        """The next rung of the ladder: half as much at once, then frame by frame, then in tiles; None at its end."""
        if self.samples > 1 or self.frames > 1:
            return replace(self, samples=max(1, self.samples // 2), frames=max(1, self.frames // 2))
        return None if self.tile else replace(self, tile=TILE)

    def __str__(self) -> str:
        tiles = f", tiles of {self.tile} pixels" if self.tile else ""
        return f"{self.samples} samples, {self.frames} frames at once{tiles}"

    @classmethod
    def parse(cls, text: str) -> "Load | None":
        """What `str` made; None for any other text."""
        found = re.fullmatch(
            r"([1-9]\d{0,3}) samples, ([1-9]\d{0,3}) frames at once(?:, tiles of ([1-9]\d{1,3}) pixels)?", text
        )
        return cls(int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def under(load: Load, parts: "Components") -> "Components":
    """The same model with that load; parts that cannot be told are left as they are."""

    def sized(part: Part, *how_much: int) -> Part:
        size: Any = getattr(part, "sized", None)
        return part if size is None else size(*how_much)

    return replace(
        parts,
        load=load,
        backbone=sized(parts.backbone, load.samples),
        autoencoder=sized(parts.autoencoder, load.frames, load.tile),
        small_autoencoder=sized(parts.small_autoencoder, load.frames, load.tile),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the device or of the machine; torch tells the latter by its words only."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, `peak` is the most bytes that results of torch operations held at one time.

    Counts what is made inside and still alive, on any device; the scratch space of a kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now: int = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in {*inputs, *self._known}:
                self._watch(storage)
        return result

    def _watch(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)

        def gone(_: Any) -> None:
            self._now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)


def _storages(tree: Any) -> Iterator[Any]:
    """Where the tensors in a tree of values hold their numbers."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            for part in (leaf._indices(), leaf._values()) if leaf.is_sparse else (leaf,):
                yield part.untyped_storage()
