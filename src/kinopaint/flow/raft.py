"""RAFT: recurrent all-pairs field transforms (Teed and Deng, ECCV 2020, arXiv:2003.12039), torchvision's version.

An extra: `pip install "kinopaint[raft]"`. The weights are torchvision's own download (hash-checked, tensors only) or a
safetensors file with the same names; they are no part of this package.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kinopaint.errors import ModelError, SettingsError
from kinopaint.types import Flow, Frames

_MULTIPLE, _SMALLEST = 8, 128  # sides that the network takes


class RaftFlow:
    """`weights`: a safetensors file; without it torchvision's, from the local cache or, with `download`, the network.

    Raises SettingsError (KP-EXTRA-RAFT) if torchvision is not installed; with the first estimate ModelError
    (KP-MODEL-NOT-CACHED, KP-MODEL-CORRUPT, KP-MODEL-MISFIT) if there are no weights that fit.
    """

    def __init__(
        self,
        size: Literal["large", "small"] = "large",
        *,
        weights: str | Path | None = None,
        download: bool = False,
        device: str = "cpu",
        updates: int = 12,
    ) -> None:
        try:
            from torchvision.models import optical_flow
        except ImportError:
            raise SettingsError(
                "KP-EXTRA-RAFT",
                "RAFT needs torchvision, which is not installed",
                where="flow",
                fix='pip install "kinopaint[raft]", or use the default flow (DIS), which needs nothing',
            ) from None
        self.size, self.device, self.updates = size, torch.device(device), updates
        self._weights, self._download = None if weights is None else Path(weights), download
        self._build: Any = getattr(optical_flow, f"raft_{size}")
        self._published: Any = getattr(optical_flow, f"Raft_{size.capitalize()}_Weights").DEFAULT

    @cached_property
    def identity(self) -> str:
        if self._weights is None:
            source = self._published.url
        else:
            source = hashlib.sha256(self._weights.read_bytes()).hexdigest()
        return f"raft-{self.size}, {self.updates} updates, {source}"

    def estimate(self, target: Frames, source: Frames) -> Flow:
        """As `FlowEstimator.estimate`, fp32. Sides are padded to what the network takes, by repeating the border."""
        height, width = target.shape[-2:]
        padding = (0, _padding(width), 0, _padding(height))
        first, second = (
            F.pad(frames.to(self.device, torch.float32), padding, mode="replicate") for frames in (target, source)
        )
        with torch.no_grad():
            flow: Tensor = self._network(first, second, num_flow_updates=self.updates)[-1]
        return flow[..., :height, :width].to(target.device)

    @cached_property
    def _network(self) -> Any:
        network = self._build(weights=None)
        try:
            network.load_state_dict(self._state())
        except RuntimeError as error:
            raise ModelError(
                "KP-MODEL-MISFIT",
                f"these are not the weights of RAFT {self.size}: {str(error)[:200]} …",
                where=str(self._weights or self._published.url),
                fix="use torchvision's weights of this size",
            ) from error
        return network.eval().requires_grad_(False).to(self.device)

    def _state(self) -> dict[str, Tensor]:
        if self._weights is not None:
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(self._weights)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    "KP-MODEL-CORRUPT",
                    f"the weights cannot be read: {error}",
                    where=str(self._weights),
                    fix="fetch them again",
                ) from error
        url = self._published.url
        kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
        if not kept.exists() and not self._download:
            raise ModelError(
                "KP-MODEL-NOT-CACHED",
                "torchvision's weights of RAFT are not in the local cache",
                where=str(kept),
                fix="allow the network with download=True, give a safetensors file, or use DIS",
            )
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, progress=False, check_hash=True, weights_only=True, map_location="cpu"
        )
        return state


def _padding(side: int) -> int:
    return max(_SMALLEST, -(-side // _MULTIPLE) * _MULTIPLE) - side
