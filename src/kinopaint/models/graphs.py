"""CUDA graphs: a call whose shapes stay the same is recorded once and then replayed, without Python in between."""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Inputs = Mapping[str, Tensor]
Outputs = tuple[Tensor, ...]
Call = Callable[[Inputs], Outputs]


@runtime_checkable
class Graph(Protocol):
    def replay(self) -> None: ...


Capture = Callable[[Callable[[], Outputs]], tuple[Graph, Outputs]]


def capture_on_cuda(call: Callable[[], Outputs]) -> tuple[Graph, Outputs]:
    """The recorded call and the memory in which each replay leaves its results."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        outputs = call()
    return graph, outputs


@dataclass(frozen=True)
class _Recorded:
    graph: Graph
    inputs: dict[str, Tensor]
    outputs: Outputs
    held: Any


class GraphedCalls:
    """Calls known by a key and the shapes of their inputs; those that come again are replayed.

    The first `warm_ups` calls of a kind run as they are: libraries choose their kernels then, and what is read once,
    such as a text, is read. Everything else that a call reads must stay where it is: `held` keeps it alive. At most
    `most` recordings are kept, each with memory of its own. If recording fails, a warning says so and nothing is
    recorded any more.
    """

    def __init__(self, capture: Capture = capture_on_cuda, *, warm_ups: int = 2, most: int = 4) -> None:
        self._capture, self._warm_ups, self._most = capture, warm_ups, most
        self._seen: Counter[Hashable] = Counter()
        self._known: dict[Hashable, _Recorded] = {}
        self._works = True

    def __call__(self, key: Hashable, inputs: Inputs, call: Call, held: Any = None) -> Outputs:
        """What `call` makes of `inputs`, in memory of the caller's own."""
        kind = key, tuple((name, tuple(each.shape), each.dtype, each.stride()) for name, each in inputs.items())
        recorded = self._known.get(kind)
        if recorded is None:
            self._seen[kind] += 1
            if not self._works or self._seen[kind] <= self._warm_ups:
                return call(inputs)
            recorded = self._record(kind, inputs, call, held)
            if recorded is None:
                return call(inputs)
        for name, place in recorded.inputs.items():
            place.copy_(inputs[name])
        recorded.graph.replay()
        return tuple(output.clone() for output in recorded.outputs)

    def _record(self, kind: Hashable, inputs: Inputs, call: Call, held: Any) -> _Recorded | None:
        places = {name: each.clone() for name, each in inputs.items()}
        while len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        try:
            graph, outputs = self._capture(lambda: call(places))
        except RuntimeError as error:
            self._works = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"CUDA graphs cannot be used, going on without: {reason}", stacklevel=4)
            return None
        self._known[kind] = _Recorded(graph, places, outputs, held)
        return self._known[kind]
