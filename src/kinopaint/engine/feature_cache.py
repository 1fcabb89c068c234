"""Reuse of a network's deep features from step to step (DeepCache, Ma, Fang, Wang; arXiv:2312.00858).

What the deep blocks say changes slowly along the steps; on some steps only the outermost blocks run, on deep features
of an earlier step.
"""

from collections import Counter
from collections.abc import Hashable

from torch import Tensor

from kinopaint.engine.schedule import Step


class FeatureCache:
    """Deep features of the latest full step, for each call of the network within a step.

    Of `every` steps one is full; from progress `exact_from` on all are, and so is the first step of each run. A call is
    known by its branches and its shape, and by its place among those of its step that are like it: each branch has
    features of its own, and a call that the full step before did not make is full, too.
    """

    def __init__(self, every: int, exact_from: float = 0.8) -> None:
        self.every, self.exact_from = every, exact_from
        self._index = -1
        self._places: Counter[Hashable] = Counter()
        self._kept: dict[tuple[int, Hashable], tuple[int, Tensor]] = {}

    def reuses(self, step: Step) -> bool:
        """Whether this is no full step by its number."""
        return step.index % self.every > 0 and step.progress < self.exact_from

    def recall(self, step: Step, call: Hashable, *, full: bool = False) -> Tensor | None:
        """Deep features for this call; None if it must be full, as asked for or not, and `keep` is to follow."""
        if step.index < self._index or step.count == 1:  # another window, or another run
            self._kept.clear()
        if step.index != self._index:
            self._places.clear()
        self._index = step.index
        self._places[call] += 1
        if full or not self.reuses(step):
            return None
        kept_at, deep = self._kept.get((self._places[call], call), (-1, None))
        return deep if kept_at == step.index - step.index % self.every else None

    def keep(self, call: Hashable, deep: Tensor) -> None:
        self._kept[self._places[call], call] = self._index, deep
