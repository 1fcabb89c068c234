"""CLIP-type scores on vectors that are known."""

from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.metrics.conftest import panned, texture

from kinopaint.metrics.encoder import PairEncoder, PictureEmbeddings
from kinopaint.metrics.fra_acc import fra_acc, fram_acc
from kinopaint.metrics.fra_con import fra_con, tem_con
from kinopaint.metrics.spat_con import spat_con


class MeanColours:
    """An encoder whose picture vector is the mean colour, whose text vectors are red and blue."""

    name, own = "mean colours", False
    texts: ClassVar = {"red": (1.0, 0.0, 0.0), "blue": (0.0, 0.0, 1.0), "a photo": (0.0, 0.0, 1.0)}

    def embed_pictures(self, pictures):
        means = torch.stack([torch.from_numpy(picture.mean((0, 1))).float() for picture in pictures])
        tokens = torch.stack(
            [torch.from_numpy(np.stack([p[:2, :2].mean((0, 1)), p[-2:, -2:].mean((0, 1))])).float() for p in pictures]
        )
        return PictureEmbeddings(F.normalize(means, dim=-1), tokens)

    def embed_texts(self, texts):
        return torch.tensor([self.texts[text] for text in texts])


def flat(*rgb):
    return np.full((12, 16, 3), rgb, np.uint8)


def test_the_encoder_of_these_tests_is_one():
    assert isinstance(MeanColours(), PairEncoder)


def test_by_hand(measured):
    source = [flat(0, 0, 200)] * 3
    result = [flat(200, 0, 0), flat(100, 100, 0), flat(60, 0, 80)]
    row = measured(source, result, encoder=MeanColours(), prompt="red").metrics
    half = 0.5**0.5
    assert row["fra_con"] == row["tem_con"] == pytest.approx((half + half * 0.6) / 2)
    assert row["pro_con"] == pytest.approx((1 + half + 0.6) / 3)
    assert row["fra_acc"] == row["fram_acc"] == pytest.approx(2 / 3)
    assert row["content"] == pytest.approx((0 + 0 + 0.8) / 3)


def test_a_static_video_is_consistent(measured):  # T34
    assert measured([texture()] * 3, [texture()] * 3, encoder=MeanColours()).metrics["fra_con"] == pytest.approx(1)


def test_the_same_prompt_twice_is_always_hit(measured):  # T38: ties count
    row = measured([flat(9, 7, 5)] * 2, [flat(1, 2, 3)] * 2, encoder=MeanColours(), prompt="blue", source_prompt="blue")
    assert row.metrics["fra_acc"] == 1


def test_other_papers_names_are_the_same_functions():
    assert tem_con is fra_con
    assert fram_acc is fra_acc


def test_nearer_to_the_prompt_scores_higher(measured):
    source = [flat(0, 0, 200)] * 2

    def scores(red):
        return measured(source, [flat(red, 0, 200 - red)] * 2, encoder=MeanColours(), prompt="red").metrics

    found = [scores(red) for red in (0, 50, 120, 200)]
    for name, rising in (("pro_con", True), ("content", False)):
        values = [metrics[name] for metrics in found]
        assert values == sorted(values, reverse=not rising)
        assert values[0] != values[3]


def test_more_colour_flicker_is_less_consistent(measured):
    source = panned(6, 1)

    def at(strength):
        result = [frame // 2 + np.array([strength * (k % 2), 0, 0], np.uint8) for k, frame in enumerate(source)]
        return measured(source, result, encoder=MeanColours()).metrics["fra_con"]

    values = [at(strength) for strength in (0, 20, 60, 120)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[3]


def test_spatial_consistency_by_hand():
    source = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # cosine 0
    result = torch.tensor([[3.0, 0.0], [3.0, 4.0]])  # cosine 0.6
    assert spat_con(result, source) == pytest.approx((0 + 0.6 + 0.6 + 0) / 4)
    assert spat_con(5 * source, source) == pytest.approx(0, abs=1e-6)


def test_spatial_consistency_against_plain_numpy_and_monotony():
    random = np.random.default_rng(0)
    source, change = random.normal(size=(2, 7, 5))

    def brute(a, b):
        cosine = lambda m, i, j: m[i] @ m[j] / np.sqrt((m[i] @ m[i]) * (m[j] @ m[j]))  # noqa: E731
        return np.mean([abs(cosine(a, i, j) - cosine(b, i, j)) for i in range(7) for j in range(7)])

    values = []
    for strength in (0, 0.1, 0.5, 2):
        result = source + strength * change
        values.append(spat_con(torch.tensor(result), torch.tensor(source)))
        assert values[-1] == pytest.approx(brute(result, source), abs=1e-9)
    assert values == sorted(values)
    assert values[3] > values[1]


def test_scores_against_plain_numpy(measured):
    """The clip's four scores from mean colours, written out once more."""
    source, result = panned(5, 2), [255 - frame for frame in panned(5, 2)]
    row = measured(source, result, encoder=MeanColours(), prompt="red").metrics

    def unit(picture):
        mean = picture.reshape(-1, 3).mean(0)
        return mean / np.sqrt((mean**2).sum())

    v, u = [unit(frame) for frame in result], [unit(frame) for frame in source]
    assert row["fra_con"] == pytest.approx(np.mean([v[k] @ v[k + 1] for k in range(4)]), abs=1e-6)
    assert row["pro_con"] == pytest.approx(np.mean([x[0] for x in v]), abs=1e-6)
    assert row["fra_acc"] == pytest.approx(np.mean([x[0] >= x[2] for x in v]))
    assert row["content"] == pytest.approx(np.mean([a @ b for a, b in zip(u, v, strict=True)]), abs=1e-6)


def test_without_encoder_or_prompt_the_scores_are_null_with_the_reason(measured):
    bare = measured([texture()] * 2, [texture()] * 2, no_encoder="no tower")
    assert bare.metrics["content"] is None
    assert bare.undefined["content"] == bare.undefined["fra_con"] == bare.undefined["pro_con"] == "no tower"
    wordless = measured([texture()] * 2, [texture()] * 2, encoder=MeanColours())
    assert wordless.metrics["content"] == pytest.approx(1)
    assert wordless.undefined["pro_con"] == "no prompt was given"
