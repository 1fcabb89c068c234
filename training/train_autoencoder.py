"""Stage 1, the autoencoder: `python -m training.train_autoencoder --minutes 25`.

The latents are made easy to denoise rather than perfect to decode: their channels are held near zero mean and unit
deviation, noise of up to 0.3 deviations, mostly less, is added to them during training, and decoding the half-size
latent has to give the half-size picture. The result is a stock `AutoencoderTiny` with scaling factor 1.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch.nn import functional as F

from training.checkpoint import resumed, write
from training.data import pictures
from training.device import add_device, half_precision

CHANNELS = 16
WIDTH = 48
CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": CHANNELS,
    "scaling_factor": 1.0,
    "encoder_block_out_channels": (WIDTH,) * 4,
    "decoder_block_out_channels": (WIDTH,) * 4,
    "num_encoder_blocks": (0, 2, 3, 4),
    "num_decoder_blocks": (4, 3, 2, 0),
}

# regular lines, dots, tiles and strokes are what such an autoencoder loses first
PATTERNED = (
    "pen-and-ink",
    "mosaic",
    "pop-art",
    "pencil",
    "swirling",
    "charcoal",
    "watercolor",
    "pixel",
    "oil",
    "woodcut",
    "stained",
)


class Store:
    """Decoded pictures of the shard folder, picked at random and cropped; grows while rendering goes on.

    `wanted` tells by a picture's name whether it belongs here: the held-out ones are for the probe alone.
    """

    def __init__(self, shards: Path, seed: int, wanted: Callable[[str], bool]) -> None:
        self.shards, self.rng, self.wanted = shards, np.random.default_rng(seed), wanted
        self.files: list[Path] = []
        self.cache: dict[Path, np.ndarray] = {}

    def refresh(self) -> None:
        self.files = sorted(f for f in self.shards.glob("*/*.jpg") if self.wanted(f.stem))
        self.photos = [f for f in self.files if f.parent.name == "photo"]
        self.patterned = [f for f in self.files if f.parent.name.startswith(PATTERNED)]

    def picture(self) -> np.ndarray:
        draw = self.rng.random()
        pool = self.photos if draw < 0.25 else self.patterned if draw < 0.6 else self.files
        path = pool[int(self.rng.integers(len(pool)))]
        if path not in self.cache:
            self.cache[path] = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        return self.cache[path]

    def batch(self, count: int, size: int) -> torch.Tensor:
        out = np.empty((count, size, size, 3), np.uint8)
        for i in range(count):
            image = self.picture()
            y = int(self.rng.integers(image.shape[0] - size + 1))
            x = int(self.rng.integers(image.shape[1] - size + 1))
            crop = image[y : y + size, x : x + size]
            out[i] = crop[:, ::-1] if self.rng.random() < 0.5 else crop
        return torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def departure(latents: torch.Tensor) -> torch.Tensor:
    """How far the channels are from zero mean and unit deviation (the divergence of two normal distributions)."""
    mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3)) + 1e-6
    return 0.5 * (mean.square() + variance - variance.log() - 1).mean()


def initialise(vae: AutoencoderTiny) -> None:
    """Blocks start as the identity and the rest keeps variance: without it the first minutes are lost."""
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, AutoencoderTinyBlock):
            torch.nn.init.zeros_(module.conv[-1].weight)
    for last in (vae.encoder.layers[-1], vae.decoder.layers[-1]):
        last.weight.data.mul_(0.5)


def differences(image: torch.Tensor) -> Iterator[torch.Tensor]:
    yield image[..., 1:] - image[..., :-1]
    yield image[..., 1:, :] - image[..., :-1, :]


def distance(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    loss = F.l1_loss(out, target) + 0.5 * F.mse_loss(out, target)
    for a, b in zip(differences(out), differences(target), strict=True):
        loss = loss + 0.7 * F.l1_loss(a, b)
    return loss


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = ((a.clamp(-1, 1) - b) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--out", type=Path, default=Path("runs/autoencoder"))
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="folder of weights to start from, such as models/mini/vae")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = AutoencoderTiny(**CONFIG)
    initialise(model)
    if args.init:
        model.load_state_dict(AutoencoderTiny.from_pretrained(args.init, torch_dtype=torch.float32).state_dict())
    model.to(args.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-4, betas=(0.9, 0.98))
    held_out = {p.name for p in pictures(args.data) if p.held_out}
    store = Store(args.shards, args.seed, lambda name: name not in held_out)
    store.refresh()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    checkpoint, trained = args.out / "checkpoint.pt", {"model": model, "average": average, "optimiser": optimiser}
    step, spent = resumed(checkpoint, trained, step=0, spent=0.0)
    if step:
        store.rng = np.random.default_rng([args.seed, step])
    limit, last, running = 60 * args.minutes, time.time(), 0.0
    while spent < limit:
        share = spent / limit
        rate = float(args.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * share)) + 2e-5)
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = store.batch(args.batch, args.size).to(args.device, memory_format=torch.channels_last)
        with half_precision(args.device):
            clean = model.encoder(images).float()
            level = args.noise * torch.rand(len(images), 1, 1, 1).square()
            noise = (level * torch.randn(clean.shape)).to(args.device)
            out = model.decoder(clean + noise).float()
            loss = distance(out, images) + 0.02 * departure(clean)
            if step % 4 == 0:
                half = model.decoder(F.avg_pool2d(clean, 2)).float()
                loss = loss + 0.3 * distance(half, F.interpolate(images, scale_factor=0.5, mode="area"))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if share > 0.7:
            average.update_parameters(model)
        step += 1
        running = 0.98 * running + 0.02 * loss.item() if step > 1 else loss.item()
        spent, last = spent + time.time() - last, time.time()
        if step % 300 == 0:
            store.refresh()
            write(checkpoint, trained, step=step, spent=spent)
            with torch.no_grad(), half_precision(args.device):
                probe = Store(args.shards, 99, lambda name: name in held_out)
                probe.refresh()
                held = probe.batch(32, 128).to(args.device)
                z = model.encoder(held).float()
                row = {
                    "step": step,
                    "minutes": round(spent / 60, 1),
                    "loss": round(running, 4),
                    "rate": round(rate, 6),
                    "files": len(store.files),
                }
                for noise in (0.0, 0.1, 0.2, 0.3):
                    row[f"psnr_{noise}"] = round(psnr(model.decoder(z + noise * torch.randn_like(z)).float(), held), 2)
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            last = time.time()
    final = average.module if int(average.n_averaged) > 50 else model
    final.cpu().eval().save_pretrained(args.out / "vae")


if __name__ == "__main__":
    main()
