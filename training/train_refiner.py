"""The temporal refiner: `python -m training.train_refiner --data ../shared/data --paint-minutes 15 --minutes 25`.

First short sequences are made and kept: neighbouring frames of clips, and a camera that moves over photographs, each
painted frame by frame by the embedded model. Then the network learns on crops of them, and on sources with synthetic
flicker, to follow its own previous output along the source's motion (Lai et al., arXiv:1808.00449) without leaving the
painted frame: colours, gradients and the tokens of the embedded image tower say how far it is. Needs that tower
(`training.train_image_tower`) in the model's folder.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import kinopaint
from kinopaint.flow.dis import DisFlow
from kinopaint.latents.clip_distance import token_distance
from kinopaint.models.refiner import RefinementNet
from kinopaint.temporal.loss import soft_visibility, temporal_loss
from training.checkpoint import resumed, write
from training.data import HELD_OUT_CLIPS, Picture, pictures
from training.device import add_device, half_precision
from training.words import TRAINED, train_phrases

FRAMES = 5
LONG = 256  # pixels, the longer side of a sequence
FLOW = DisFlow("medium")


def clip_sequence(path: Path, share: float) -> np.ndarray | None:
    """Consecutive frames from `share` of the way through a clip, "frame height width 3"; None where it is too short."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        begin = share * (container.duration or 4_000_000) / 1e6
        container.seek(int(begin / stream.time_base), stream=stream)
        found = []
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= begin:
                found.append(frame.to_ndarray(format="rgb24"))
            if len(found) == FRAMES:
                return np.stack(found)
    return None


def photo_sequence(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A camera that pans, turns and zooms a little over a photograph, RGB float in [0, 1]."""
    height, width = image.shape[:2]
    pan, turn, zoom = rng.uniform(-6, 6, 2), rng.uniform(-0.8, 0.8), rng.uniform(-0.012, 0.012)
    frames = []
    for time_ in range(FRAMES):
        middle = time_ - FRAMES / 2
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn * middle, 1.15 + zoom * middle)
        matrix[:, 2] += pan * middle
        frames.append(
            cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        )
    return (np.stack(frames).clip(0, 1) * 255).astype(np.uint8)


def reduced(frames: np.ndarray) -> np.ndarray:
    height, width = frames.shape[1:3]
    scale = LONG / max(height, width)
    size = (int(width * scale) // 8 * 8, int(height * scale) // 8 * 8)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def jobs(known: list[Picture], seed: int) -> Iterator[tuple[str, Picture, bool, np.random.Generator]]:
    """Endless: (name, picture, whether it is a clip, random numbers), clips and photographs in turn."""
    clips = sorted({p.path for p in known if p.time is not None})
    photos = [p for p in known if p.time is None]
    for number in range(1_000_000):
        rng = np.random.default_rng([seed, number])
        if number % 2:
            picture = photos[int(rng.integers(len(photos)))]
            yield f"{number:05d}-{'held' if picture.held_out else 'train'}", picture, False, rng
        else:
            path = clips[number // 2 % len(clips)]
            held = path.stem in HELD_OUT_CLIPS
            yield f"{number:05d}-{'held' if held else 'train'}", Picture(path.stem, path, 0.0, held), True, rng


def paint_sequences(args: argparse.Namespace) -> None:
    """Make sequences until the time is used up; those that are there are kept, and counted by their own clock."""
    folder = args.out / "sequences"
    folder.mkdir(parents=True, exist_ok=True)
    begin, parts = time.time(), None
    for name, picture, is_clip, rng in jobs(pictures(args.data), args.seed):
        if (folder / f"{name}.safetensors").exists():
            continue
        if time.time() - begin > 60 * args.paint_minutes:
            return
        share, medium = rng.uniform(0.05, 0.9), TRAINED[int(rng.integers(len(TRAINED)))]
        frames = clip_sequence(picture.path, share) if is_clip else photo_sequence(picture.load(), rng)
        if frames is None:
            continue
        frames = reduced(frames)
        parts = parts or kinopaint.load_model(str(args.model))
        fields = {
            **parts.recommended.get("style-a-video", {}),
            "num_inference_steps": args.steps,
            "temporal": "identity",
        }
        method = kinopaint.methods.StyleAVideo(**fields)
        painted = np.stack(list(kinopaint.stylize_frames(frames, train_phrases(medium)[0], method=method, parts=parts)))
        tensors = {"source": torch.from_numpy(frames), "painted": torch.from_numpy(painted)}
        save_file(tensors, folder / f"{name}.safetensors")
        print(f"{name} {picture.name}: {medium} ({time.time() - begin:.0f} s)", flush=True)


def flickering(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Random gain, gamma and tint for each frame, "frame 3 height width" in [0, 1]."""
    count = len(frames)
    gain, gamma = (torch.from_numpy(rng.uniform(low, 1 / low, (count, 1, 1, 1))).float() for low in (0.85, 0.8))
    tint = torch.from_numpy(rng.uniform(-0.04, 0.04, (count, 3, 1, 1))).float()
    return (frames.clamp(1e-4, 1) ** gamma * gain + tint).clamp(0, 1)


class Sequences:
    """Crops of the kept sequences; `held` chooses the side of the split."""

    def __init__(self, folder: Path, held: bool, seed: int | list[int]) -> None:
        self.rng = np.random.default_rng(seed)
        ending = "held" if held else "train"
        self.kept = [load_file(file) for file in sorted(folder.glob(f"*-{ending}.safetensors"))]

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Source and painted frames, "frame 3 size size" in [0, 1]: cropped, mirrored, turned round in time."""
        chosen = self.kept[int(self.rng.integers(len(self.kept)))]
        source, painted = (chosen[name].permute(0, 3, 1, 2).float() / 255 for name in ("source", "painted"))
        y, x = (int(self.rng.integers(max(side - size, 0) + 1)) for side in source.shape[-2:])
        source, painted = (frames[..., y : y + size, x : x + size] for frames in (source, painted))
        if self.rng.random() < 0.25:
            painted = flickering(source if self.rng.random() < 0.5 else painted, self.rng)
        if self.rng.random() < 0.5:
            source, painted = source.flip(-1), painted.flip(-1)
        if self.rng.random() < 0.5:
            source, painted = source.flip(0), painted.flip(0)
        return source, painted

    def batch(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        """ "crop frame 3 height width", of the smallest size among the drawn."""
        drawn = [self.draw(size) for _ in range(count)]
        height, width = (min(source.shape[axis] for source, _ in drawn) for axis in (-2, -1))
        sources, painted = ([pair[which][..., :height, :width] for pair in drawn] for which in (0, 1))
        return torch.stack(sources), torch.stack(painted)


def motion(source: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from each frame to the one before it, and how much the source agrees: "crop frame-1 …"."""
    now, before = (2 * part.flatten(0, 1) - 1 for part in (source[:, 1:], source[:, :-1]))
    flow = FLOW.estimate(now, before)
    return tuple(t.unflatten(0, (len(source), -1)) for t in (flow, soft_visibility(now, before, flow)))  # type: ignore[return-value]


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def refined(net: RefinementNet, painted: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(place, output, previous output) for the frames from the second on; "crop 3 height width"."""
    before = painted[:, 0]
    for place in range(1, painted.shape[1]):
        with half_precision(painted.device):
            output, _ = net(painted[:, place], before, painted[:, place], painted[:, place - 1])
        output = output.float()
        yield place, output, before
        before = output.detach()


@torch.no_grad()
def judged(net: RefinementNet, held: Sequences, device: torch.device) -> dict[str, float]:
    """Of held-out crops: temporal loss and mean gradient of the output, as shares of the painted frames' own."""
    held.rng = np.random.default_rng(5)
    loss, own, sharp, own_sharp = 0.0, 0.0, 0.0, 0.0
    for _ in range(12):
        source, painted = held.batch(1, 160)
        flow, seen, painted = (each.to(device) for each in (*motion(source), painted))
        for place, output, before in refined(net, painted):
            now = (flow[:, place - 1], seen[:, place - 1])
            loss += float(temporal_loss(output, before, *now))
            own += float(temporal_loss(painted[:, place], painted[:, place - 1], *now))
            sharp += sum(float(g.abs().mean()) for g in gradients(output))
            own_sharp += sum(float(g.abs().mean()) for g in gradients(painted[:, place]))
    return {"flicker": round(loss / own, 3), "sharpness": round(sharp / own_sharp, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, default=Path("src/kinopaint/models/mini"))
    parser.add_argument("--init", type=Path, help="safetensors file of weights to start from")
    parser.add_argument("--out", type=Path, default=Path("runs/refiner"))
    parser.add_argument("--paint-minutes", type=float, default=15, help="time for further sequences; 0 = none")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps of the sequences")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--width", type=int, default=16, help="32 is the published one")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--report", type=int, default=50, help="steps between two lines of the log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    paint_sequences(args)

    tower = kinopaint.load_model(str(args.model), device=str(args.device), dtype="float32").image_encoder
    if tower is None:
        raise SystemExit(f"{args.model} has no image_encoder: run training.train_image_tower first")
    net = RefinementNet(args.width, args.blocks)
    torch.nn.init.zeros_(net.deconv3.conv2d.weight)  # begins by changing nothing
    torch.nn.init.zeros_(net.deconv3.conv2d.bias)
    if args.init:
        net.load_state_dict(load_file(args.init))
    net.to(args.device)
    optimiser = torch.optim.Adam(net.parameters(), lr=args.rate)
    checkpoint, trained = args.out / "checkpoint.pt", {"model": net, "optimiser": optimiser}
    step, spent = resumed(checkpoint, trained, step=0, spent=0.0)
    data = Sequences(args.out / "sequences", False, [args.seed, step])
    held = Sequences(args.out / "sequences", True, 5)
    print(f"{len(data.kept)} sequences, {len(held.kept)} held out", flush=True)

    def save() -> None:
        folder = args.out / "refiner"
        folder.mkdir(exist_ok=True)
        save_file(
            {name: tensor.half().cpu().contiguous() for name, tensor in net.state_dict().items()},
            folder / "model.safetensors",
        )
        about = {"width": args.width, "blocks": args.blocks, "guide": "painted", "carries_state": False}
        (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")

    limit, last, running = 60 * args.minutes, time.time(), np.zeros(4)
    while spent < limit:
        for group in optimiser.param_groups:
            group["lr"] = float(
                args.rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * spent / limit)) + 1e-5
            )
        source, painted = data.batch(args.batch, args.size)
        flow, seen, painted = (each.to(args.device) for each in (*motion(source), painted))
        parts, looked_at = torch.zeros(4, device=args.device), int(data.rng.integers(1, FRAMES))
        for place, output, before in refined(net, painted):
            goal = painted[:, place]
            content = torch.zeros((), device=args.device)
            if place == looked_at:  # the tower would take two thirds of the time if it looked at all frames
                with half_precision(args.device):
                    tokens = [tower.tokens(2 * frames - 1)[:, 1:].float() for frames in (output, goal)]
                content = (FRAMES - 1) * token_distance(*tokens).mean()
            edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(output), gradients(goal), strict=True))
            now = temporal_loss(output, before, flow[:, place - 1], seen[:, place - 1])
            parts = parts + torch.stack(
                [100 * now, 10 * content, 10 * F.l1_loss(output, goal), 10 * torch.as_tensor(edges)]
            )
        parts = parts / (FRAMES - 1)
        optimiser.zero_grad(set_to_none=True)
        parts.sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        found = parts.detach().cpu().numpy()
        running = found if step == 1 else 0.95 * running + 0.05 * found
        spent, last = spent + time.time() - last, time.time()
        if step % args.report == 0:
            write(checkpoint, trained, step=step, spent=spent)
            row = {"step": step, "minutes": round(spent / 60, 1), "loss": round(float(running.sum()), 4)}
            row |= {n: round(float(v), 4) for n, v in zip(("time", "content", "colour", "edges"), running, strict=True)}
            row |= judged(net, held, args.device) if held.kept else {}
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            save()
            last = time.time()
    save()


if __name__ == "__main__":
    main()
