"""Flow that is estimated once for each pair of pictures, however often it is asked for."""

from dataclasses import dataclass

import torch

from kinopaint.engine.cache import DiskCache, content_key
from kinopaint.flow.estimator import FlowEstimator
from kinopaint.types import Flow, Frames


@dataclass(frozen=True)
class CachedFlow:
    """Any estimator with a cache on disk; the key is the two pictures' content and the estimator's identity."""

    estimator: FlowEstimator
    cache: DiskCache

    @property
    def identity(self) -> str:
        return self.estimator.identity

    def estimate(self, target: Frames, source: Frames) -> Flow:
        flows = [self._kept(target[place, None], source[place, None]) for place in range(len(target))]
        return torch.cat(flows).to(target.device)

    def _kept(self, target: Frames, source: Frames) -> Flow:
        key = content_key(self.identity, target, source)
        return self.cache.get_or_compute(key, lambda: {"flow": self.estimator.estimate(target, source)})["flow"]
