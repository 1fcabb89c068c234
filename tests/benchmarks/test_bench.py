"""`make bench` from end to end on tiny networks: on the CPU, and as on a GPU, with torch's CUDA calls faked."""

import json
import sys
import time

import pytest
import torch
from benchmarks import work

TINY_UNET = {
    "sample_size": 8,
    "in_channels": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 768,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
TINY_VAE = {
    "block_out_channels": (4, 8, 8, 8),
    "norm_num_groups": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TINY_TOWER = {"hidden_size": 64, "num_hidden_layers": 1, "patch_size": 112, "projection_dim": 8}


@pytest.fixture
def bench(monkeypatch):
    """The script, as if SD-1.5 were tiny."""
    monkeypatch.setitem(sys.modules, "work", work)
    from benchmarks import bench

    monkeypatch.setattr(work, "SD15_UNET", TINY_UNET)
    monkeypatch.setattr(work, "SD15_VAE", TINY_VAE)
    monkeypatch.setattr(work, "CLIP_B32", TINY_TOWER)
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(bench, "ceiling", lambda *_: 1e12)
    return bench


def run(bench, monkeypatch, tmp_path, *words):
    file = tmp_path / "figures.json"
    words = ["bench.py", "--only", "sd15", "--size", "64x32", "--repeats", "2", "--json", str(file), *words]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    return json.loads(file.read_text())["sd15"]


def test_on_the_cpu(bench, monkeypatch, tmp_path, capsys):
    found = run(bench, monkeypatch, tmp_path, "--device", "cpu", "--dtype", "float32")
    assert found["model_calls"] == {"stock": 3, "exact": 3}
    assert [len(times) for times in found["ms_per_frame"].values()] == [2, 2]
    assert found["peak_bytes_beside_weights"]["exact"] > 0
    assert "as fast" in capsys.readouterr().out


class Gpu:
    """Stands for a GPU whose memory is the machine's own: tensors can be put there."""

    type, index = "cuda", 0

    def __str__(self):
        return "cuda"


def test_as_on_a_gpu(bench, monkeypatch, tmp_path):
    """Everything that asks for the kind of device thinks it is a GPU; tensors stay where they can be."""
    place = torch.device("cpu")
    told = []
    for name, answer in {
        "synchronize": None,
        "memory_allocated": 10,
        "max_memory_allocated": 30,
        "reset_peak_memory_stats": None,
        "get_device_name": "Test GPU",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name, answer=answer: (told.append(name), answer)[1])
    monkeypatch.setattr(bench, "choose_device", lambda name: Gpu())
    monkeypatch.setattr(bench, "choose_dtype", lambda name, device: torch.float32)
    sd15 = bench.sd15
    monkeypatch.setattr(bench, "sd15", lambda device, dtype: sd15(place, dtype))
    found = run(bench, monkeypatch, tmp_path, "--device", "cuda", "--steps", "4")
    assert set(found["median"]) == {"stock", "exact", "balanced", "four branches", "four branches, balanced"}
    assert found["model_calls"]["stock"] == 4 * 8
    assert found["model_calls"]["four branches"] > found["model_calls"]["exact"]
    assert found["peak_bytes_beside_weights"] == {"stock": 20, "exact": 20}
    assert found["goals_ms"]["four branches"] == [200, 130, 100]
    assert {"synchronize", "get_device_name"} <= set(told)


def test_no_turn_is_begun_for_which_there_is_no_time(bench):
    turns = []
    runs = {"one": lambda: (turns.append(1), time.sleep(0.02))}
    place = torch.device("cpu")
    found, _ = bench.measure(runs, 50, 1, place, time.perf_counter, time.monotonic() + 0.1, ())
    assert len(found["one"]) == len(turns) < 6
    found, _ = bench.measure(runs, 5, 1, place, time.perf_counter, time.monotonic() - 1, ())
    assert len(found["one"]) == 1
