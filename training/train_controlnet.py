"""The ControlNet of the embedded model: `python -m training.train_controlnet --minutes 20`.

The frozen U-Net paints renderings from words; the photograph is mostly withheld, and a network beside its encoder
learns to say from the photograph's contours alone what goes where (Zhang et al., arXiv:2302.05543). It starts from a
copy of the encoder. Shards and cached latents are those of `training.train_unet`.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models import UNet2DConditionModel
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.schedulers import DDIMScheduler
from torch import Tensor
from torch.nn import functional as F

from kinopaint.models.hints import lines
from kinopaint.models.pixels import to_tensor
from training.checkpoint import resumed, write
from training.device import add_device, half_precision, halves
from training.train_unet import Style, Triples, Words, trained_styles

CELL = 8  # pixels
LOUDER = 1.5  # times what was learnt: contours agree better (edge F1 +24 % in place of +15 %), prompt scores still rise
OUTPUTS = ("controlnet_down_blocks", "controlnet_mid_block")
Pairs = dict[Style, list[tuple[Tensor, Tensor]]]
KEPT = ("in_channels", "down_block_types", "block_out_channels", "layers_per_block", "cross_attention_dim",
        "attention_head_dim", "norm_num_groups")  # fmt: skip


def beside(unet: UNet2DConditionModel, latent_channels: int) -> ControlNetModel:
    """A ControlNet for `unet`, 5.6 million parameters: its encoder's weights, a middle without attention."""
    config = {name: unet.config[name] for name in KEPT}
    network = ControlNetModel(
        **{**config, "in_channels": latent_channels},
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=(16, 32, 64, 64),
    )
    known, own = unet.state_dict(), network.state_dict()
    shared = {name: tensor for name, tensor in known.items() if name in own}
    # of the first convolution what reads the noisy latents; the rest reads the photograph
    shared["conv_in.weight"] = known["conv_in.weight"][:, :latent_channels]
    network.load_state_dict({**own, **shared})
    return network


def contours(picture: Path) -> Tensor:
    """Lines of a photograph, "height width" in 8 bits: float maps of all photographs would take gigabytes."""
    image = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
    return (lines(to_tensor(image)[None])[0, 0] * 255).round().to(torch.uint8)


class Crops(Triples):
    """Random batches of one crop size, with the lines of the photograph, which itself is mostly withheld."""

    def __init__(
        self,
        latents: dict[str, dict[str, Tensor]],
        photos: Path,
        words: Words,
        pairs: Pairs,
        withheld: float,
        seed: int,
        step: int,
    ) -> None:
        super().__init__(latents["photo"], pairs, words, seed, step)
        self.withheld = withheld
        # pairs hold the latents of the photographs, not their names
        self.lines = {id(latent): contours(photos / f"{name}.jpg") for name, latent in latents["photo"].items()}

    def lined(self, count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lines "crop 3 8·height 8·width" in [0, 1], latents of photograph and rendering, text states."""
        drawn = [self._draw(height, width) for _ in range(count)]
        drawings, source, target, text = (torch.stack(each) for each in zip(*drawn, strict=True))
        return drawings.float().div(255)[:, None].expand(-1, 3, -1, -1), source.float(), target.float(), text.float()

    def _draw(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        style = self.styles[int(self.rng.choice(len(self.styles), p=self.weights))]
        photo, rendering = self.pairs[style][int(self.rng.integers(len(self.pairs[style])))]
        states = self.words.states[style, ""]
        text = states[int(self.rng.integers(len(states)))]
        y = 2 * int(self.rng.integers((rendering.shape[1] - height) // 2 + 1))  # as training.train_unet cuts
        x = 2 * int(self.rng.integers((rendering.shape[2] - width) // 2 + 1))
        cells = (slice(None), slice(y, y + height), slice(x, x + width))
        drawing = self.lines[id(photo)][CELL * y : CELL * (y + height), CELL * x : CELL * (x + width)]
        source, target = photo[cells], rendering[cells]
        if self.rng.random() < self.withheld:
            source = torch.zeros_like(source)
        if self.rng.random() < 0.12:
            text = self.words.empty
        return drawing, source, target, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/kinopaint/models/mini"), help="U-Net and text encoder")
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--latents", type=Path, default=Path("runs/unet/latents.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/controlnet"))
    parser.add_argument("--init", type=Path, help="folder of weights to start from, such as models/mini/controlnet")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--withheld", type=float, default=0.75, help="share of the crops without the photograph")
    parser.add_argument("--large-from", type=float, default=0.7, help="share of the time after which crops are 256 px")
    parser.add_argument("--captions", type=int, default=40, help="captions per medium")
    parser.add_argument("--report", type=int, default=50, help="steps between two lines of the log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_device(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    unet = UNet2DConditionModel.from_pretrained(args.model / "unet", torch_dtype=torch.float32).requires_grad_(False)
    channels = unet.config.out_channels
    scheduler = DDIMScheduler.from_pretrained(args.model / "scheduler")
    alphas = scheduler.alphas_cumprod
    net = beside(unet, channels)
    if args.init:
        net.load_state_dict(ControlNetModel.from_pretrained(args.init, torch_dtype=torch.float32).state_dict())
    if halves(args.device):
        unet.bfloat16()
    unet.to(args.device)
    net.to(args.device)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters", flush=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    checkpoint, trained = args.out / "checkpoint.pt", {"model": net, "average": average, "optimiser": optimiser}
    step, spent = resumed(checkpoint, trained, step=0, spent=0.0)
    torch.manual_seed(args.seed + step)
    latents = torch.load(args.latents, weights_only=True)
    pairs = trained_styles(latents)
    words = Words(args.model, list(pairs), args.captions, args.seed)
    data = Crops(latents, args.shards / "photo", words, pairs, args.withheld, args.seed, step)

    def save() -> None:
        write(checkpoint, trained, step=step, spent=spent)
        source = average.module if int(average.n_averaged) > 200 else net
        export = ControlNetModel.from_config(net.config).half()
        learnt = source.state_dict()
        export.load_state_dict(
            {
                name: (tensor * LOUDER if name.startswith(OUTPUTS) else tensor).half().cpu()
                for name, tensor in learnt.items()
            }
        )
        export.save_pretrained(args.out / "controlnet")

    limit, last, losses = 60 * args.minutes, time.time(), []
    while spent < limit:
        share = spent / limit
        for group in optimiser.param_groups:
            group["lr"] = float(args.rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * share)) + 2e-5)
        height, width = (16, 16) if share < args.large_from else ((32, 32), (24, 36), (36, 24), (16, 32))[step % 4]
        count = max(args.batch * 256 // (height * width), 4)
        pictures, source, target, text = data.lined(count, height, width)
        t = (torch.rand(count) ** 0.6 * 1000).long().clamp(0, 999)
        a, s = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        noise = torch.randn_like(target)
        noisy, goal = a * target + s * noise, a * noise - s * target
        noisy, source, goal, text, pictures, t = (
            each.to(args.device) for each in (noisy, source, goal, text, pictures, t)
        )
        inputs = torch.cat([noisy, source], 1)
        with half_precision(args.device):
            down, middle = net(noisy, t, text, pictures, return_dict=False)
            v = unet(inputs, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
            loss = F.mse_loss(v.float(), goal)
            if step % max(args.report // 5, 1) == 0:
                with torch.no_grad():
                    losses.append((loss.item(), F.mse_loss(unet(inputs, t, text).sample.float(), goal).item()))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if share > 0.5:
            average.update_parameters(net)
        step += 1
        spent, last = spent + time.time() - last, time.time()
        if step % args.report == 0:
            led, alone = np.mean(losses, 0)
            losses.clear()
            row = {"step": step, "minutes": round(spent / 60, 2), "loss": round(float(led), 4),
                   "loss_without": round(float(alone), 4)}  # fmt: skip
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
        if step % (10 * args.report) == 0:
            save()
            last = time.time()
    save()


if __name__ == "__main__":
    main()
