"""The decoder once more: `python -m training.train_decoder --paint-minutes 4 --minutes 30`.

Latents that the denoiser makes are smoother than those of pictures: where it cannot know a stroke's place it paints the
mean of all places. So the decoder goes on learning with both: latents of pictures, which it has to give back, and
painted ones, which it has to make as busy as the rendering, patch by patch, besides coming near to it. The encoder, and
with it the latent space, stays as it is. New blocks (`--blocks`) start as the identity.

Shards and cached latents are those of `training.train_unet`; the painted latents are kept in `runs/decoder/painted`.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models import AutoencoderTiny, UNet2DConditionModel
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.schedulers import DDIMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from training.checkpoint import resumed, write
from training.data import pictures
from training.device import add_device, half_precision
from training.train_autoencoder import differences, distance, psnr
from training.train_unet import Triples, Words, trained_styles

CELL = 8  # pixels
CROP = 16  # cells of what is painted and learnt from
GUIDANCE = 2.0  # recommended `s_text`
STEPS = 8
Place = tuple[str, int, int]  # picture, from the shards' folder; first cell down and across


def grown(vae: AutoencoderTiny, blocks: list[int]) -> AutoencoderTiny:
    """The same function with more residual blocks at each size of the decoder. Raises ValueError for fewer."""
    before = list(vae.config.num_decoder_blocks)
    if any(new < old for new, old in zip(blocks, before, strict=True)):
        raise ValueError(f"{blocks} has fewer blocks than {before}")
    made = AutoencoderTiny.from_config({**vae.config, "num_decoder_blocks": blocks})
    made.encoder.load_state_dict(vae.encoder.state_dict())
    old, new = (_stages(model.decoder.layers) for model in (vae, made))
    for ours, theirs in zip(new, old, strict=True):
        for module in ours[len(theirs) :]:  # after the known ones: a block passes on what is not negative
            nn.init.kaiming_normal_(module.conv[0].weight, nonlinearity="relu")
            nn.init.kaiming_normal_(module.conv[2].weight, nonlinearity="relu")
            nn.init.zeros_(module.conv[4].weight)
            for convolution in module.conv[::2]:
                nn.init.zeros_(convolution.bias)
        for module, known in zip(ours, theirs, strict=False):
            module.load_state_dict(known.state_dict())
    return made


def _stages(layers: nn.Sequential) -> list[list[nn.Module]]:
    """Runs of blocks, and what is between them, by turns; a run may be empty."""
    stages: list[list[nn.Module]] = [[]]
    for module in layers:
        block = isinstance(module, AutoencoderTinyBlock)
        if block != (len(stages) % 2 == 1):
            stages.append([])
        stages[-1].append(module)
    return stages


@dataclass(frozen=True)
class Shards:
    """Pictures of the shard folder by the latents that were made from them."""

    folder: Path
    names: dict[int, str]

    @classmethod
    def of(cls, folder: Path, store: dict[str, dict[str, Tensor]]) -> "Shards":
        return cls(folder, {id(z): f"{name}/{stem}" for name, kept in store.items() for stem, z in kept.items()})

    def pixels(self, places: list[Place]) -> Tensor:
        """ "crop 3 height width" in [-1, 1]."""
        crops = []
        for name, y, x in places:
            image = cv2.cvtColor(cv2.imread(str(self.folder / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
            crops.append(image[CELL * y : CELL * (y + CROP), CELL * x : CELL * (x + CROP)])
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class Scenes(Triples):
    """Random photographs with the words and the place of a rendering."""

    def scenes(self, count: int, shards: Shards) -> tuple[Tensor, Tensor, list[Place]]:
        drawn = [self._scene(shards) for _ in range(count)]
        sources, texts, places = zip(*drawn, strict=True)
        return torch.stack(sources).float(), torch.stack(texts).float(), list(places)

    def _scene(self, shards: Shards) -> tuple[Tensor, Tensor, Place]:
        style = self.styles[int(self.rng.choice(len(self.styles), p=self.weights))]
        photo, rendering = self.pairs[style][int(self.rng.integers(len(self.pairs[style])))]
        y, x = self.place(style[0], rendering, CROP, CROP)
        states = self.words.states[style, ""]
        place = shards.names[id(rendering)], y, x
        return photo[:, y : y + CROP, x : x + CROP], states[int(self.rng.integers(len(states)))], place


@torch.inference_mode()
def painted(
    unet: UNet2DConditionModel, scheduler: DDIMScheduler, source: Tensor, text: Tensor, empty: Tensor
) -> Tensor:
    """Latents as the model makes them from photographs and words, on the recommended settings."""
    scheduler.set_timesteps(STEPS)
    last = scheduler.alphas_cumprod[scheduler.timesteps[0]]
    latents = last.sqrt() * source + (1 - last).sqrt() * torch.randn(source.shape).to(source)
    words = torch.cat([empty.expand_as(text), text])
    for t in scheduler.timesteps:
        with half_precision(source.device):
            v = unet(torch.cat([latents, source], 1).repeat(2, 1, 1, 1), t, words).sample.float()
        plain, led = v.chunk(2)
        latents = scheduler.step(plain + GUIDANCE * (led - plain), t, latents).prev_sample
    return latents


def paint(args: argparse.Namespace, data: Scenes, shards: Shards, folder: Path) -> None:
    """Fill `folder` until the time is used up; what is there is kept."""
    unet = UNet2DConditionModel.from_pretrained(args.unet, torch_dtype=torch.float32).to(args.device).eval()
    scheduler = DDIMScheduler.from_pretrained(args.model / "scheduler")
    begin = time.time()
    for number in range(len(list(folder.glob("*.json"))), 1_000_000):
        if time.time() - begin > 60 * args.paint_minutes:
            return
        torch.manual_seed(number)
        data.rng = np.random.default_rng([args.seed, number])
        source, text, places = data.scenes(args.paint_batch, shards)
        given = (each.to(args.device) for each in (source, text, data.words.empty.float()))
        latents = painted(unet, scheduler, *given).cpu()
        save_file({"latents": latents.half()}, folder / f"{number:05d}.safetensors")
        (folder / f"{number:05d}.json").write_text(json.dumps(places))
        print(f"painted {(number + 1) * args.paint_batch} in {time.time() - begin:.0f} s", flush=True)


class Painted:
    """Crops of the painted latents, and their places; every twentieth file is for the probe."""

    def __init__(self, folder: Path, probe: bool, rng: np.random.Generator) -> None:
        files = [file for i, file in enumerate(sorted(folder.glob("*.safetensors"))) if (i % 20 == 0) == probe]
        self.rng, self.latents = rng, torch.cat([load_file(file)["latents"] for file in files])
        self.places: list[Place] = [
            (name, y, x) for file in files for name, y, x in json.loads(file.with_suffix(".json").read_text())
        ]

    def batch(self, count: int) -> tuple[Tensor, list[Place]]:
        chosen = self.rng.integers(len(self.places), size=count)
        return self.latents[chosen].float(), [self.places[i] for i in chosen]


class Kept:
    """Crops of the cached latents, a quarter of them of photographs."""

    def __init__(self, store: dict[str, dict[str, Tensor]], rng: np.random.Generator) -> None:
        self.store, self.rng = store, rng
        self.all = [(folder, name) for folder, kept in store.items() for name in kept]
        self.photos = [("photo", name) for name in store["photo"]]

    def batch(self, count: int) -> tuple[Tensor, list[Place]]:
        crops, places = [], []
        for _ in range(count):
            pool = self.photos if self.rng.random() < 0.25 else self.all
            folder, name = pool[int(self.rng.integers(len(pool)))]
            latent = self.store[folder][name]
            y, x = (int(self.rng.integers(side - CROP + 1)) for side in latent.shape[1:])
            crops.append(latent[:, y : y + CROP, x : x + CROP])
            places.append((f"{folder}/{name}", y, x))
        return torch.stack(crops).float(), places


def busyness(image: Tensor) -> Tensor:
    """Mean length of the gradient of lightness in patches of 16 px, every 8 px; "n 1 h w"."""
    across, down = differences(image.mean(1, keepdim=True))
    length = (across[..., :-1, :].square() + down[..., :-1].square() + 1e-4).sqrt()
    return F.avg_pool2d(length, 16, 8)


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """SSIM in windows of 7 px, mean over everything, for pictures in [-1, 1]."""
    mx, my = F.avg_pool2d(one, 7, 1), F.avg_pool2d(other, 7, 1)
    vx, vy = F.avg_pool2d(one * one, 7, 1) - mx * mx, F.avg_pool2d(other * other, 7, 1) - my * my
    both = F.avg_pool2d(one * other, 7, 1) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    return (((2 * mx * my + c1) * (2 * both + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, default=Path("src/kinopaint/models/mini"))
    parser.add_argument("--unet", type=Path, default=Path("src/kinopaint/models/mini/unet"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--latents", type=Path, default=Path("runs/unet/latents.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/decoder"))
    parser.add_argument("--paint-minutes", type=float, default=4)
    parser.add_argument("--paint-batch", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=8, help="half of it painted")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--busy", type=float, default=1.5, help="weight of how busy painted patches are")
    parser.add_argument("--blocks", type=int, nargs=4, default=[8, 5, 2, 0], help="residual blocks at 1/8, 1/4, 1/2, 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    args = parser.parse_args()
    folder = args.out / "painted"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    store = torch.load(args.latents, weights_only=True)
    shards = Shards.of(args.shards, store)
    if args.paint_minutes:
        pairs = trained_styles(store)
        data = Scenes(store["photo"], pairs, Words(args.model, list(pairs), 40, args.seed), args.seed)
        paint(args, data, shards, folder)

    vae = AutoencoderTiny.from_pretrained(args.model / "vae", torch_dtype=torch.float32)
    vae = grown(vae, args.blocks).to(args.device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    decoder = vae.decoder
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=args.rate, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    average = torch.optim.swa_utils.AveragedModel(
        decoder, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    checkpoint, trained = args.out / "checkpoint.pt", {"decoder": decoder, "average": average, "optimiser": optimiser}
    step, spent = resumed(checkpoint, trained, step=0, spent=0.0)
    rng = np.random.default_rng([args.seed, step])
    kept, made = Kept(store, rng), Painted(folder, False, rng)
    probe = Painted(folder, True, np.random.default_rng(1)).batch(48)
    rough_probe, probe_pixels = probe[0].to(args.device), shards.pixels(probe[1]).to(args.device)
    held = sorted(args.shards / "photo" / f"{p.name}.jpg" for p in pictures(args.data) if p.held_out)[::4]
    photos = torch.stack([_middle(file, 128) for file in held]).to(args.device)

    def save() -> None:
        write(checkpoint, trained, step=step, spent=spent)
        if int(average.n_averaged) > 50:
            best = AutoencoderTiny.from_config(vae.config)
            best.encoder.load_state_dict(vae.encoder.state_dict())
            best.decoder.load_state_dict(average.module.state_dict())
            best.eval().save_pretrained(args.out / "vae")

    @torch.inference_mode()
    def measured() -> dict[str, float]:
        """Of held-out photographs after a round trip, and of painted crops beside their renderings."""
        with half_precision(args.device):
            back = torch.cat([decoder(vae.encoder(part)).float() for part in photos.split(16)])
            out = torch.cat([decoder(part).float() for part in rough_probe.split(16)])
        return {
            "psnr_photo": round(psnr(back, photos), 2),
            "ssim_photo": round(float(similarity(back, photos)), 4),
            "psnr_painted": round(psnr(out, probe_pixels), 2),
            "busyness": round(float(busyness(out).mean() / busyness(probe_pixels).mean()), 3),
        }

    limit, last, losses = 60 * args.minutes, time.time(), []
    while spent < limit:
        share = spent / limit
        for group in optimiser.param_groups:
            group["lr"] = float(args.rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-5)
        half = args.batch // 2
        (clean, places), (rough, others) = kept.batch(half), made.batch(args.batch - half)
        clean = clean + 0.3 * torch.rand(half, 1, 1, 1).square() * torch.randn_like(clean)
        target = shards.pixels(places + others).to(args.device)
        latents = torch.cat([clean, rough]).to(args.device, memory_format=torch.channels_last)
        with half_precision(args.device):
            out = decoder(latents).float()
        # what is known counts twice: the same decoder serves photographs that are to stay as they are
        loss = 2 * distance(out[:half], target[:half]) + distance(out[half:], target[half:])
        loss = loss + 0.3 * (1 - similarity(out[:half], target[:half]))
        for scale in (1, 2):
            mine, theirs = (F.avg_pool2d(image[half:], scale) for image in (out, target))
            loss = loss + args.busy * F.l1_loss(busyness(mine), busyness(theirs))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        if share > 0.5:
            average.update_parameters(decoder)
        losses.append(loss.item())
        step += 1
        spent, last = spent + time.time() - last, time.time()
        if step % 250 == 0 or step == 1:
            row = {
                "step": step,
                "minutes": round(spent / 60, 2),
                "loss": round(float(np.mean(losses)), 4),
                **measured(),
            }
            losses.clear()
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            save()
            last = time.time()
    save()


def _middle(file: Path, side: int) -> Tensor:
    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return torch.from_numpy(image[y : y + side, x : x + side]).permute(2, 0, 1).float().div_(127.5).sub_(1)


if __name__ == "__main__":
    main()
