"""A plain judge that knows nothing of the model: least squares on statistics of colours and bands."""

from pathlib import Path

import cv2
import numpy as np

from training.renderings.blocks import to_lab


def statistics(picture: np.ndarray) -> np.ndarray:
    """Of an RGB uint8 picture: colours, contrast, energy by scale and direction."""
    lab = to_lab(picture.astype(np.float32) / 255)
    out = [*lab.mean((0, 1)), *lab.std((0, 1)), *np.percentile(lab, (2, 15, 50, 85, 98), axis=(0, 1)).ravel()]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    out += [chroma.mean(), chroma.std(), np.percentile(chroma, 95)]
    level = lab
    for _ in range(5):
        smooth = cv2.GaussianBlur(level, (0, 0), 1.2)
        band = level - smooth
        out += [*np.log1p(np.abs(band).mean((0, 1))), np.log1p((band[..., 0] ** 4).mean() ** 0.25)]
        level = smooth[::2, ::2]
    gx, gy = cv2.Scharr(lab[..., 0], cv2.CV_32F, 1, 0), cv2.Scharr(lab[..., 0], cv2.CV_32F, 0, 1)
    turn = ((np.arctan2(gy, gx) % np.pi) / np.pi * 8).astype(int) % 8
    energy = np.bincount(turn.ravel(), np.hypot(gx, gy).ravel(), 8)
    return np.array([*out, *(energy / max(energy.sum(), 1e-9))], np.float64)


class Classifier:
    """Ridge regression of one-hot labels on standardised statistics and their squares."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self.mean, self.scale = rows.mean(0), rows.std(0) + 1e-9
        x = self._expand(rows)
        self.weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ np.eye(classes)[labels])

    @classmethod
    def of_shards(cls, folders: list[Path], each: int, size: int, held_out: set[str]) -> "Classifier":
        """Learn from at most `each` pictures of every folder, cut to their middle; the folders are the classes.

        Each is seen sharp and a little soft, as a codec leaves it.
        """
        rows, labels = [], []
        for label, folder in enumerate(folders):
            files = [file for file in sorted(folder.glob("*.jpg")) if file.stem not in held_out][:each]
            if not files:
                raise FileNotFoundError(f"no pictures in {folder}; make the shards first (training/README.md)")
            for file in files:
                sharp = middle(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB), size)
                rows += [statistics(sharp), statistics(cv2.GaussianBlur(sharp, (0, 0), 1.0))]
                labels += [label, label]
        return cls(np.array(rows), np.array(labels), len(folders))

    def _expand(self, rows: np.ndarray) -> np.ndarray:
        z = np.clip((rows - self.mean) / self.scale, -4, 4)
        return np.hstack([np.ones((len(z), 1)), z, z**2])

    def scores(self, pictures: list[np.ndarray]) -> np.ndarray:
        """How much each picture belongs to each class, (picture, class); about 1 for its own, 0 for the others."""
        return self._expand(np.array([statistics(picture) for picture in pictures])) @ self.weights

    def share(self, pictures: list[np.ndarray], label: int) -> float:
        """Share of the pictures that are taken for class `label`."""
        return float((self.scores(pictures).argmax(1) == label).mean())


def middle(image: np.ndarray, size: int) -> np.ndarray:
    y, x = max(image.shape[0] - size, 0) // 2, max(image.shape[1] - size, 0) // 2
    return np.ascontiguousarray(image[y : y + size, x : x + size])
