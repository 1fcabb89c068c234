"""Time per frame, ours against stock diffusers: the same weights, steps, size and precision, side by side.

    make bench                     the embedded model, then Stable Diffusion 1.5's architecture with random weights
    make bench DEVICE=cuda         the same on a GPU, and four branches with the CLIP step; at most 8 minutes
    python benchmarks/bench.py --only mini --frames 4 --repeats 3 --clock cpu

Both run in one process and take turns, so that whatever else the machine does hits both; the median of the turns
counts. Stock is `StableDiffusionInstructPix2PixPipeline`, called frame by frame as people do for videos. Ours is
Style-A-Video: `exact` in three branches (`joint`) computes what stock computes, `balanced` is the profile. Reading and
writing video is in neither; encoding and decoding of latents is in both. `--clock cpu` measures the processor's time
instead of the wall's, for a machine that others use, too; with one thread.

The achieved share is the architecture's work (benchmarks/work.py) over time, of the matrix product's on this machine.
Figures go to the file that `--json` names after each model, so that a run that is cut short leaves what it has.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import work

import kinopaint
from kinopaint import demo
from kinopaint.engine.denoiser import Text
from kinopaint.engine.load import PeakMemory
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.models.autoencoder import DiffusersAutoencoder
from kinopaint.models.diffusers_unet import DiffusersBackbone
from kinopaint.models.image import ClipImages
from kinopaint.models.placement import choose_device, choose_dtype
from kinopaint.profiles import PROFILES
from kinopaint.recipe import versions

PROMPT = "a watercolor painting"
S_TEXT, S_IMAGE = 7.5, 1.5
LIMIT = 420.0  # seconds; nothing is begun that would, by what came before, take longer
WARM_UPS = {"cpu": 0, "cuda": 3}  # turns that do not count
GOALS = {"four branches": (200, 130, 100), "four branches, balanced": (60,)}  # ms on an H200: gate, goal, stretch
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


class FixedText:
    """In place of a text encoder, which has no part in what is measured: random states for each text."""

    dim, max_tokens = 768, work.TEXT_TOKENS

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode(self, texts: Sequence[str]) -> list[Text]:
        generator = torch.Generator().manual_seed(0)
        return [Text(torch.randn(77, 768, generator=generator).to(self.device)) for _ in texts]

    def beyond_limit(self, text: str) -> str:
        return ""


def random_weights(network: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A network from the meta device with small random weights, so that values stay finite."""
    network = network.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        with torch.no_grad():
            if weight.ndim > 1:
                weight.normal_(std=weight[0].numel() ** -0.5)
            else:
                weight.fill_(float("norm" in name and name.endswith("weight")))
    return network.eval()


def sd15(device: torch.device, dtype: torch.dtype) -> tuple[Any, Callable[[], Any]]:
    """Stable Diffusion 1.5's architecture as ours and as stock; the two share their weights."""
    from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

    unet = random_weights(work.build("UNet2DConditionModel", **work.SD15_UNET), device, dtype)
    vae = random_weights(work.build("AutoencoderKL", **work.SD15_VAE), device, dtype)
    copies = []
    for network in (unet, vae):
        twin = work.rebuilt(network)
        twin.load_state_dict(network.state_dict(), assign=True)
        copies.append(twin.requires_grad_(False))
    schedule = NoiseSchedule.from_config({**SCHEDULE, "set_alpha_to_one": False})
    text = FixedText(device)
    parts = kinopaint.models.Components(
        DiffusersBackbone(unet, "epsilon", image_channels=4, batch=64 if device.type == "cuda" else 24),
        DiffusersAutoencoder(vae),
        text,
        schedule,
        name="sd15",
        device=device,
        dtype=dtype,
    )

    def pipeline() -> Any:
        scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing")
        made = StableDiffusionInstructPix2PixPipeline(
            copies[1], None, None, copies[0], scheduler, None, None, requires_safety_checker=False
        )
        states = text.encode([PROMPT])[0].states[None].to(dtype)
        made.told = {"prompt_embeds": states, "negative_prompt_embeds": states}
        return made

    return parts, pipeline


def with_gradient(parts: Any) -> Any:
    """The same model with a CLIP ViT-B/32 and a tiny autoencoder of random weights, for the CLIP step."""
    tower = random_weights(work.clip(**work.CLIP_B32), parts.device, parts.dtype)
    for name, buffer in list(tower.named_buffers()):  # positions, which came as rubbish from the meta device
        owner, _, leaf = name.rpartition(".")
        positions = torch.arange(buffer.shape[-1], device=parts.device).expand(buffer.shape)
        tower.get_submodule(owner).register_buffer(leaf, positions, persistent=False)
    small = random_weights(work.build("AutoencoderTiny"), parts.device, parts.dtype)
    return replace(parts, image_encoder=ClipImages(tower), small_autoencoder=DiffusersAutoencoder(small))


def mini(device: torch.device, dtype: str) -> tuple[Any, Callable[[], Any]]:
    """The embedded model as ours and as stock."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    parts = kinopaint.load_model("mini", device=str(device), dtype=dtype)

    def pipeline() -> Any:
        made = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            parts.path, safety_checker=None, requires_safety_checker=False, torch_dtype=parts.dtype
        )
        made.told = {"prompt": PROMPT}
        return made.to(parts.device)

    return parts, pipeline


def stock(pipeline: Any, pictures: Sequence[np.ndarray], steps: int, **more: Any) -> list[Any]:
    """Stock diffusers, one frame at a time; what it puts out."""
    from PIL import Image

    pipeline.set_progress_bar_config(disable=True)
    settings = {
        "num_inference_steps": steps,
        "guidance_scale": S_TEXT,
        "image_guidance_scale": S_IMAGE,
        "output_type": "np",
        **pipeline.told,
        **more,
    }
    return [
        pipeline(image=Image.fromarray(picture), generator=torch.Generator().manual_seed(0), **settings).images[0]
        for picture in pictures
    ]


def ours(parts: Any, pictures: Sequence[np.ndarray], steps: int, profile: str, **more: Any) -> list[np.ndarray]:
    """Our three branches as stock has them, from the same noise, under a profile; `more` are other fields."""
    fields = PROFILES[profile].fields if profile != "exact" else {}
    settings = {
        "text_branch": "joint",
        "s_text": S_TEXT,
        "s_image": S_IMAGE,
        "init": "noise",
        "windows": kinopaint.types.WindowPlan(8),
        "num_inference_steps": steps,
        **{name: value for name, value in fields.items() if name != "num_inference_steps" or steps >= 30},
        **more,
    }
    method = kinopaint.methods.StyleAVideo(**settings)
    return list(kinopaint.stylize_frames(iter(pictures), PROMPT, method=method, parts=PROFILES[profile].applied(parts)))


def four_branches(parts: Any, pictures: Sequence[np.ndarray], steps: int, profile: str) -> list[np.ndarray]:
    """The paper's guidance: nothing, frame, words, mask; and the CLIP step through the tiny decoder."""
    clip = {"clip_strength": 0.02, "clip_decoder": "small", "clip_every": 1 if profile == "exact" else 2}
    fields = {"text_branch": "null_image", "s_mask": 0.5, "mask_lagged": True, **clip}
    return ours(parts, pictures, steps, profile, **fields)


def ceiling(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Operations per second of a matrix product of random numbers: what this machine can do at best."""
    size = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(5):
        begin = clock()
        one @ other
        synchronise(device)
        times.append(clock() - begin)
    return float(2 * size**3 / min(times[1:]))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    place = f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    if device.type != "cuda":
        return place
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, driver {driver()}; {place}"


def driver() -> str:
    """The driver's version and the clocks, as nvidia-smi tells them."""
    asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def measure(
    runs: dict[str, Callable[[], Any]],
    repeats: int,
    frames: int,
    device: torch.device,
    clock: Callable[[], float],
    deadline: float,
    networks: Sequence[Any],
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Milliseconds per frame of each run, one number for each turn; and how often each calls one of `networks`.

    `deadline` is on the monotonic clock.

    The first turn is made whatever it takes. Turns that only warm up come first, as long as there is time for as many
    again.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    calls, counted = {}, [0]

    def count(*_: Any) -> None:
        counted[0] += 1

    handles = [network.register_forward_pre_hook(count) for network in networks]
    turns = WARM_UPS[device.type] + repeats
    turn = 0
    while turn < turns:
        started = time.monotonic()
        for name, run in runs.items():
            begin, before = clock(), counted[0]
            run()
            synchronise(device)
            found[name].append((clock() - begin) / frames * 1000)
            calls[name] = counted[0] - before
        turn += 1
        if time.monotonic() + (time.monotonic() - started) > deadline:
            turns = turn
    for handle in handles:
        handle.remove()
    warm = min(WARM_UPS[device.type], turns - 1)
    return {name: times[warm:] for name, times in found.items()}, calls


def peak(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes that a run takes at most beside the weights."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with PeakMemory() as memory:
        run()
    return memory.peak


def suite(
    name: str, given: argparse.Namespace, device: torch.device, clock: Callable[[], float], deadline: float
) -> dict[str, Any]:
    """All figures of one model."""
    quick = device.type == "cuda"
    if name == "mini":
        parts, make = mini(device, given.dtype)
        steps, repeats, frames = given.steps, given.repeats, given.frames
    else:
        dtype = choose_dtype(given.dtype, device)
        parts, make = sd15(device, dtype)
        steps, repeats, frames = (given.steps, given.repeats, 8) if quick else (3, min(2, given.repeats), 1)
    width, height = map(int, given.size.split("x"))
    pictures = list(demo.render(frames=frames, size=(width, height)))
    pipeline = make()
    runs = {
        "stock": lambda: stock(pipeline, pictures, steps),
        "exact": lambda: ours(parts, pictures, steps, "exact"),
        "balanced": lambda: ours(parts, pictures, steps, "balanced"),
    }
    if name == "sd15" and quick:
        clipped = with_gradient(parts)
        runs["four branches"] = lambda: four_branches(clipped, pictures, steps, "exact")
        runs["four branches, balanced"] = lambda: four_branches(clipped, pictures, steps, "balanced")
    elif name == "sd15":
        del runs["balanced"]  # three steps say nothing about it
    stock(pipeline, pictures[:1], 1)  # warms up
    ours(parts, pictures[:1], 1, "exact")
    networks = (parts.backbone.unet, pipeline.unet)
    found, calls = measure(runs, repeats, frames, device, clock, deadline, networks)
    median = {run: statistics.median(times) for run, times in found.items()}
    ninety_fifth = {run: float(np.quantile(times, 0.95)) for run, times in found.items()}

    factor, network = parts.autoencoder.factor, work.rebuilt(parts.backbone.unet)
    one = work.unet_work(network, height // factor, width // factor, parts.text_encoder.max_tokens)
    coder = work.autoencoder_work(work.rebuilt(parts.autoencoder.network), height, width)
    per_frame = {run: 3 * steps * one + sum(coder) for run in ("stock", "exact")}
    if "four branches" in runs:
        gradient = work.gradient_work(work.build("AutoencoderTiny"), work.clip(**work.CLIP_B32), height, width)
        per_frame["four branches"] = (5 * one + gradient) * steps + sum(coder)  # the fifth: what the CLIP step sees
    best = ceiling(device, parts.dtype, clock)
    peaks = {
        "stock": peak(lambda: stock(pipeline, pictures[:1], 1), device),
        "exact": peak(lambda: ours(parts, pictures, 1, "exact"), device),
    }
    return {
        "settings": f"{given.size}, {steps} steps, {frames} frames, 3 branches, {parts.dtype}",
        "ms_per_frame": found,
        "median": median,
        "percentile_95": ninety_fifth,
        "times_as_fast": {run: median["stock"] / each for run, each in median.items()},
        "model_calls": calls,
        "tera_operations_per_frame": {run: each / 1e12 for run, each in per_frame.items()},
        "ceiling_tera_per_second": best / 1e12,
        "share_of_ceiling": {run: each / (median[run] / 1000) / best for run, each in per_frame.items()},
        "peak_bytes_beside_weights": peaks,
        "goals_ms": {run: goals for run, goals in GOALS.items() if run in runs},
    }


def faithfulness(device: torch.device, steps: int, size: tuple[int, int]) -> dict[str, dict[str, float]]:
    """How far the latents of one frame are from stock's in fp32, of the largest value of these: at most, and as the
    root of the mean square. Ours in fp32, ours and stock's in half precision.
    """
    pictures = list(demo.render(frames=1, size=size))

    def latents(dtype: str, whose: str) -> torch.Tensor:
        parts, make = mini(device, dtype)
        if whose == "stock":
            return stock(make(), pictures, steps, output_type="latent")[0].float()
        caught: list[torch.Tensor] = []
        watched = copy.copy(parts.autoencoder)
        watched.decode = lambda clean: caught.append(clean) or parts.autoencoder.decode(clean)
        ours(replace(parts, autoencoder=watched), pictures, steps, "exact")
        return caught[0][0]

    reference = latents("float32", "stock")

    def off(dtype: str, whose: str) -> dict[str, float]:
        far = (latents(dtype, whose) - reference) / reference.abs().max()
        return {"largest": float(far.abs().max()), "root mean square": float(far.square().mean().sqrt())}

    return {
        "exact, float32": off("float32", "ours"),
        **{f"{who}, bfloat16": off("bfloat16", who) for who in ("ours", "stock")},
    }


def shown(name: str, figures: dict[str, Any]) -> str:
    lines = [f"{name}: {figures['settings']}", f"{'':<24}{'ms/frame':>9}{'as fast':>9}{'of ceiling':>12}  all turns"]
    for run, times in figures["ms_per_frame"].items():
        share = figures["share_of_ceiling"].get(run)
        lines.append(
            f"{run:<24}{figures['median'][run]:>9.0f}{figures['times_as_fast'][run]:>8.2f}x"
            f"{'' if share is None else f'{share:.0%}':>12}  {', '.join(f'{each:.0f}' for each in times)}"
        )
    done = ", ".join(f"{run} {each:.2f}" for run, each in figures["tera_operations_per_frame"].items())
    lines.append(f"TFLOP per frame: {done}; ceiling {figures['ceiling_tera_per_second']:.2f} TFLOP/s")
    held = ", ".join(f"{run} {size / 1e6:.0f} MB" for run, size in figures["peak_bytes_beside_weights"].items())
    lines.append(f"calls {figures['model_calls']}; peak beside weights: {held}")
    return "\n".join(lines)


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description="Time per frame, ours against stock diffusers.")
    parser.add_argument("--only", choices=("mini", "sd15", "latents"), help="one part (default: the two models)")
    parser.add_argument("--frames", type=int, default=8, help="frames per turn with mini (default: 8)")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps (default: 30)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: auto)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="time of the wall or the processor")
    parser.add_argument("--latents", action="store_true", help="compare latents, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # third parties'

    device = choose_device(given.device)
    if given.clock == "cpu":
        torch.set_num_threads(1)
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    print(f"{machine(device)}\n{', '.join(f'{name} {version}' for name, version in versions().items())}")
    figures: dict[str, Any] = {"machine": machine(device), "clock": given.clock, "versions": versions()}
    names = tuple(each for each in ("mini", "sd15") if given.only in (each, None))
    for index, name in enumerate(names):
        left = LIMIT - (time.monotonic() - begun)
        figures[name] = suite(name, given, device, clock, time.monotonic() + left / (len(names) - index))
        print(shown(name, figures[name]), flush=True)
        write(figures, given.json)
    if given.latents or given.only == "latents":
        width, height = map(int, given.size.split("x"))
        figures["latents"] = faithfulness(device, given.steps, (width, height))
        print(f"latents against stock's in fp32, {given.size}, {given.steps} steps:")
        for run, far in figures["latents"].items():
            print(f"{run:<24}" + ", ".join(f"{name} {each:.2e}" for name, each in far.items()))
        write(figures, given.json)


def write(figures: dict[str, Any], file: Path | None) -> None:
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
