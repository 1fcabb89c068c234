"""What mask and CLIP step cost: `mini` against itself with diffusers' own layers where the gradient goes.

    python -m benchmarks.clip_step [--size 512x256] [--frames 2] [--steps 2] [--turns 3] [--dtype float32]

The processor's milliseconds per frame and step (encoding and decoding shared out among the steps), the quickest of
several turns which both take one after the other; then the seconds of a frame of 30 steps with everything on. One
thread, so that processor time adds up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from diffusers.models.autoencoders.vae import DecoderTiny
from torch import nn

import kinopaint
from kinopaint.latents.clip_distance import clip_distance
from kinopaint.models.layers import Linear, ReLU
from kinopaint.models.pixels import to_tensor
from kinopaint.models.tiny_decoder import TinyDecoder
from kinopaint.types import Clip, Frames, Prompt, Window

CONFIGURATIONS: dict[str, dict[str, float]] = {
    "words and frame only": {"s_mask": 0.0, "clip_strength": 0.0},
    "with the mask": {"s_mask": 0.5, "clip_strength": 0.0},
    "with the CLIP step": {"s_mask": 0.0, "clip_strength": 0.02},
    "with both": {"s_mask": 0.5, "clip_strength": 0.02},
}
ONCE = "encoding and decoding, once per frame"
STOCK: dict[type[nn.Module], type[nn.Module]] = {TinyDecoder: DecoderTiny, ReLU: nn.ReLU, Linear: nn.Linear}


def stock(parts: Any) -> Any:
    """The model with diffusers' and transformers' own forwards in decoder and image tower."""
    for network in (parts.autoencoder.network, parts.image_encoder.model):
        for module in network.modules():
            module.__class__ = STOCK.get(type(module), type(module))
    return parts


def milliseconds(act: Callable[[], object], pictures: int) -> float:
    clock = time.process_time()
    act()
    return 1000 * (time.process_time() - clock) / pictures


def painting(parts: Any, frames: Frames, steps: int, fields: dict[str, float]) -> Callable[[], object]:
    """One painting of the frames, without the temporal backend."""
    recommended = parts.recommended.get("style-a-video", {})
    method = kinopaint.methods.StyleAVideo(**{**recommended, "num_inference_steps": steps, "clip_every": 1, **fields})
    shared = method.prepare(Clip(*frames.shape[-2:]), Prompt("oil painting"), parts)
    window = Window(0, frames, tuple(range(len(frames))), slice(0, None), opens_shot=True)
    return lambda: method.painted(window, shared, parts)


def gradient(parts: Any, frames: Frames) -> dict[str, Callable[[], object]]:
    """The pieces of one gradient: decoder there and back, then decoder and tower there and back."""
    with torch.no_grad():
        clean = parts.autoencoder.scaled(parts.autoencoder.encode(frames))
    loss = clip_distance(parts.image_encoder, parts.autoencoder.decode, frames, features="tokens")

    def back(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        def act() -> object:
            with torch.enable_grad():
                moving = clean.clone().requires_grad_()
                return torch.autograd.grad(function(moving).sum(), moving)

        return act

    return {"decoder, there and back": back(parts.autoencoder.decode), "whole gradient": back(loss)}


def main() -> None:
    parser = argparse.ArgumentParser(description="What mask and CLIP step cost.")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--frames", type=int, default=2, help="frames at once (default: 2)")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps (default: 2)")
    parser.add_argument("--turns", type=int, default=3, help="(default: 3)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 (default: float32)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, args.size.split("x"))
    noise = np.random.default_rng(0).integers(0, 256, (args.frames, height, width, 3)).astype(np.uint8)
    frames = torch.stack([to_tensor(cv2.GaussianBlur(picture, (0, 0), 4)) for picture in noise])

    ours, theirs = (kinopaint.load_model("mini", device="cpu", dtype=args.dtype) for _ in range(2))
    stock(theirs)
    with torch.no_grad():
        acts = {
            name: [(painting(parts, frames, args.steps, fields), args.frames * args.steps) for parts in (theirs, ours)]
            for name, fields in CONFIGURATIONS.items()
        }
        coders = [parts.autoencoder for parts in (theirs, ours)]
        acts[ONCE] = [
            (lambda coder=coder: coder.decode(coder.scaled(coder.encode(frames))), args.frames) for coder in coders
        ]
        pieces = [gradient(parts, frames) for parts in (theirs, ours)]
        acts |= {name: [(piece[name], args.frames) for piece in pieces] for name in pieces[0]}
        found = {
            name: [
                min(turn)
                for turn in zip(*([milliseconds(*act) for act in both] for _ in range(args.turns)), strict=True)
            ]
            for name, both in acts.items()
        }
    print(f"{args.size}, {args.frames} frames, {args.dtype}; milliseconds of one processor per frame and step")
    print("| | diffusers' layers | ours | ratio |\n| --- | --- | --- | --- |")
    for name, (before, after) in found.items():
        print(f"| {name} | {before:.0f} | {after:.0f} | {after / before:.2f} |")
    whole = [
        (30 * (both - once / args.steps) + once) / 1000
        for both, once in zip(found["with both"], found[ONCE], strict=True)
    ]
    print(f"30 steps with both: {whole[0]:.1f} -> {whole[1]:.1f} s per frame")


if __name__ == "__main__":
    main()
