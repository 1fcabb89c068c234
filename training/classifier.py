"""A judge that knows nothing of the model: a small convolutional network that names the generator's pictures."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.device import half_precision
from training.mood_shards import chosen

WIDTHS = (32, 64, 96, 160)
EXTRA = 32  # pixels around the part that is shown, for random crops


class Classifier:
    """Names pictures by the folder of shards that they look like."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @classmethod
    def of_shards(
        cls, folders: list[Path], each: int, size: int, held_out: set[str], passes: int = 10, seed: int = 0
    ) -> "Classifier":
        """Learn from at most `each` pictures of every folder; the folders are the classes.

        Pictures of `size` are cut out at random and seen sharp or a little soft, as a codec leaves them.
        """
        pictures, labels = [], []
        for label, folder in enumerate(folders):
            # drawn from all photographs: the first by the alphabet are of a few kinds only
            files = chosen([f for f in folder.glob("*.jpg") if f.stem not in held_out], folder.name, each)
            if not files:
                raise FileNotFoundError(f"no pictures in {folder}; make the shards first (training/README.md)")
            for file in files:
                pictures.append(middle(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB), size + EXTRA))
                labels.append(label)
        torch.manual_seed(seed)
        network = _network(len(folders))
        rng, optimiser = np.random.default_rng(seed), torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.02)
        steps = passes * (len(pictures) // 32)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        with torch.enable_grad():
            for batch in _batches(rng, len(pictures), steps):
                inputs = torch.stack([_tensor(_seen(pictures[i], size, rng)) for i in batch])
                goal = torch.tensor([labels[i] for i in batch])
                with half_precision(torch.device("cpu")):
                    guess = network(inputs)
                loss = F.cross_entropy(guess.float(), goal, label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        return cls(network)

    def scores(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Probability of each class for each RGB uint8 picture, (picture, class)."""
        with torch.inference_mode():
            return torch.cat([self.network(_tensor(picture)[None]) for picture in pictures]).softmax(1).numpy()

    def share(self, pictures: list[np.ndarray], label: int) -> float:
        """Share of the pictures that are taken for class `label`."""
        return float((self.scores(pictures).argmax(1) == label).mean())


class _Pooled(nn.Module):
    """Mean and deviation of every channel over the picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.float().std((2, 3)).to(x.dtype)], 1)


def _network(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
        kernel = 5 if i == 0 else 3
        layers += [nn.Conv2d(before, after, kernel, 2, kernel // 2), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers, _Pooled(), nn.Dropout(0.2), nn.Linear(2 * WIDTHS[-1], classes))


def _batches(rng: np.random.Generator, count: int, steps: int, size: int = 32) -> Iterator[np.ndarray]:
    order = np.concatenate([rng.permutation(count) for _ in range(-(-steps * size // count))])
    return iter(np.split(order[: steps * size], steps))


def _seen(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = (int(rng.integers(max(side - size, 0) + 1)) for side in picture.shape[:2])
    part = picture[y : y + size, x : x + size]
    return cv2.GaussianBlur(part, (0, 0), float(rng.uniform(0.4, 1.4))) if rng.random() < 0.5 else part


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float().div(127.5).sub(1)


def middle(image: np.ndarray, size: int) -> np.ndarray:
    y, x = max(image.shape[0] - size, 0) // 2, max(image.shape[1] - size, 0) // 2
    return np.ascontiguousarray(image[y : y + size, x : x + size])
