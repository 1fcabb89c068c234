"""What FRESCO's feature optimisation costs beside the network that it accompanies, and how its memory grows.

    python benchmarks/fresco_cost.py            # counted and timed; a few minutes on one core

Counted: floating-point operations of Stable Diffusion 1.5's architecture at 512 x 512, on tensors without content.
Timed: an architecture of the same shape with a quarter of the channels, random weights, 256 x 256, optimisation and
network in turns; and the embedded model at 256 x 256 with its recommended settings. Memory: what torch holds at most,
for windows of 2, 4 and 8 frames.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import kinopaint
from kinopaint.engine.load import PeakMemory
from kinopaint.features.consistency import Consistency, SpatialTerm
from kinopaint.features.self_similarity import self_similarity_slope
from kinopaint.flow.pair import FlowPair
from kinopaint.flow.ring import FlowRing

SD_INPUTS = ((1280, 8), (1280, 16), (1280, 32), (640, 64))  # channels and side of the decoder blocks' inputs, 512 x 512
BRANCHES = 2


def sd_unet(share: int, device: str) -> Any:
    """The network of Stable Diffusion 1.5 with 1 / `share` of its channels."""
    from diffusers import UNet2DConditionModel

    with torch.device(device):
        return UNet2DConditionModel(
            sample_size=64,
            block_out_channels=tuple(width // share for width in (320, 640, 1280, 1280)),
            attention_head_dim=8,
            cross_attention_dim=768 // share,
            norm_num_groups=32 // share,
        ).eval()


def ring(frames: int, side: int) -> FlowRing:
    """A window whose flow is a few pixels everywhere, and nothing hidden."""
    flow = torch.randn(frames, 2, 1, 1).expand(-1, -1, side, side) * 3
    hidden = torch.zeros(frames, 1, side, side)
    return FlowRing(torch.zeros(frames, 3, side, side), FlowPair(flow, -flow), hidden, hidden)


def counted() -> None:
    unet = sd_unet(1, "meta")
    with FlopCounterMode(display=False) as count, torch.no_grad():
        unet(torch.zeros(1, 4, 64, 64, device="meta"), 1, torch.zeros(1, 77, 768, device="meta"))
    network = count.get_total_flops()
    iteration = 0
    for channels, side in SD_INPUTS:
        rows = torch.zeros(side * side, channels, device="meta")
        with FlopCounterMode(display=False) as count:
            self_similarity_slope(rows, rows)
        along = 2 * 2 * 2 * 5 * side * side * channels  # D and its transpose, both ways, 5 numbers in a row of D
        iteration += count.get_total_flops() + along
    work = Consistency().iterations * iteration
    print(f"SD 1.5, 512 x 512, per frame and branch: network {network / 1e12:.2f} TFLOP,")
    print(f"  optimisation {work / 1e12:.2f} TFLOP in each step where it acts: ratio {work / network:.2f}")


def in_turns(frames: int, call: Any, optimise: Any, turns: int) -> None:
    spent = [0.0, 0.0]
    call(), optimise()
    for _ in range(turns):
        for place, run in enumerate((call, optimise)):
            begin = time.process_time()
            run()
            spent[place] += time.process_time() - begin
    network, work = (seconds / turns for seconds in spent)
    print(f"  {frames} frames: network {network:.2f} s, optimisation {work:.2f} s a step: ratio {work / network:.2f}")


def timed(share: int, frames: int, side: int, turns: int) -> None:
    torch.manual_seed(0)
    unet, count = sd_unet(share, "cpu"), BRANCHES * frames
    told = torch.randn(count, 77, 768 // share)
    latents = torch.randn(count, 4, side // 8, side // 8)
    inputs = [
        torch.randn(BRANCHES, frames, channels // share, size * side // 512, size * side // 512)
        for channels, size in SD_INPUTS
    ]
    window, how = ring(frames, side), Consistency()

    def call() -> None:
        with torch.no_grad():
            unet(latents, 1, told)

    print(f"SD 1.5 with 1 / {share} of the channels, {side} x {side}, fp32, {torch.get_num_threads()} thread(s):")
    in_turns(frames, call, lambda: [how.optimised(each, each.flip(1), window) for each in inputs], turns)


def mini(frames: int, side: int, turns: int) -> None:
    parts = kinopaint.load_model("mini", device="cpu", dtype="float32")
    unet = parts.backbone.unet  # type: ignore[attr-defined]
    inputs: list[torch.Tensor] = []
    handles = [
        block.register_forward_pre_hook(
            lambda module, args, kwargs: inputs.append(kwargs["hidden_states"].unflatten(0, (BRANCHES, frames))),
            with_kwargs=True,
        )
        for block in unet.up_blocks
    ]
    latents = torch.randn(BRANCHES * frames, unet.config.in_channels, side // 8, side // 8)
    told = torch.randn(BRANCHES * frames, 77, unet.config.cross_attention_dim)
    window, fields = ring(frames, side), dict(parts.recommended.get("fresco", {}))
    settings = (("defaults", Consistency(spatial=SpatialTerm(most_cells=4096))), ("recommended", recommended(fields)))

    def call() -> None:
        with torch.no_grad():
            unet(latents, 1, told)

    call()
    for handle in handles:
        handle.remove()
    for name, how in settings:
        print(f"mini, {side} x {side}, {name} ({how.iterations} iterations, {how.spatial.most_cells} cells at most):")
        in_turns(frames, call, lambda how=how: [how.optimised(e, e.flip(1), window) for e in inputs], turns)  # type: ignore[misc]


def recommended(fields: dict[str, Any]) -> Consistency:
    chosen = kinopaint.methods.Fresco(**fields)
    return Consistency(chosen.optimise_iterations, spatial=SpatialTerm(most_cells=chosen.gram_cells))


def memory() -> None:
    print("memory of one optimisation, 160 channels of 32 x 32 cells:")
    for frames in (2, 4, 8):
        feature, window = torch.randn(BRANCHES, frames, 160, 32, 32), ring(frames, 256)
        with PeakMemory() as held:
            Consistency(iterations=2).optimised(feature, feature, window)
        print(f"  {frames} frames: {held.peak / 1e6:.1f} MB")


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--turns", type=int, default=1, help="repetitions of each timing (default: 1)")
    reader.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    given = reader.parse_args()
    torch.set_num_threads(given.threads)
    counted()
    memory()
    timed(4, 2, 256, given.turns)
    mini(4, 256, given.turns)


if __name__ == "__main__":
    main()
