"""Reuse of a network's deep features from step to step (DeepCache, Ma, Fang, Wang; arXiv:2312.00858).

What the deep blocks say changes slowly along the steps; on some steps only the outermost blocks run, on deep features
of an earlier step.
"""

from collections.abc import Hashable

from torch import Tensor

from kinopaint.engine.schedule import Step


class FeatureCache:
    """Deep features of the latest full step, for each call of the network within a step.

    Of `every` steps one is full; from progress `exact_from` on all are, and so is the first step of each run. A call is
    known by its place among the calls of its step, its branches and its shape: each branch has features of its own,
    and a step that calls in another way than the full one before it is full, too.
    """

    def __init__(self, every: int, exact_from: float = 0.8) -> None:
        self.every, self.exact_from = every, exact_from
        self._index, self._place = -1, 0
        self._kept: dict[tuple[int, Hashable], tuple[int, Tensor]] = {}

    def recall(self, step: Step, call: Hashable) -> Tensor | None:
        """Deep features for this call; None if it must be full, and `keep` is to follow."""
        if step.index < self._index:  # another window, or another run
            self._kept.clear()
        self._place = self._place + 1 if step.index == self._index else 0
        self._index = step.index
        full = step.index - step.index % self.every
        if step.index == full or step.progress >= self.exact_from:
            return None
        kept_at, deep = self._kept.get((self._place, call), (-1, None))
        return deep if kept_at == full else None

    def keep(self, call: Hashable, deep: Tensor) -> None:
        self._kept[self._place, call] = self._index, deep
