"""The disk cache: whole entries, checked, bounded, and never a reason to fail."""

import os

import pytest
import torch

from kinopaint.engine.cache import DiskCache


class Maker:
    """Computes a tensor of 1000 numbers, counting how often."""

    def __init__(self, value=1.0):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return {"numbers": torch.full((1000,), self.value)}


def entry(folder, key="key"):
    return folder / f"{key}.safetensors"


def test_an_entry_is_computed_once_and_read_back(tmp_path):
    make = Maker(3.0)
    first = DiskCache(tmp_path / "new").get_or_compute("key", make)
    again = DiskCache(tmp_path / "new").get_or_compute("key", make)
    assert make.calls == 1
    assert torch.equal(first["numbers"], again["numbers"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["key.safetensors"]  # no part is left


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "rubbish"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    make = Maker()
    DiskCache(tmp_path).get_or_compute("key", make)
    whole = entry(tmp_path).read_bytes()
    spoilt = bytearray(whole)
    spoilt[-10] ^= 1
    entry(tmp_path).write_bytes(
        {"empty": b"", "cut": whole[:-100], "flipped": bytes(spoilt), "rubbish": os.urandom(200)}[damage]
    )
    assert torch.equal(DiskCache(tmp_path).get_or_compute("key", make)["numbers"], torch.ones(1000))
    assert make.calls == 2
    assert entry(tmp_path).read_bytes() == whole


def test_the_entries_not_used_for_longest_go_first(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=13_000)  # three of 4.1 kB
    for age, key in ((50, "a"), (40, "b"), (30, "c")):
        cache.get_or_compute(key, Maker())
        when = entry(tmp_path, key).stat().st_mtime - age
        os.utime(entry(tmp_path, key), (when, when))
    cache.get_or_compute("a", Maker())  # used again: now the youngest
    cache.get_or_compute("d", Maker())
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "d"}  # at most nine tenths are kept
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 13_000


def test_a_failed_computation_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        DiskCache(tmp_path).get_or_compute("key", fail)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache, make = DiskCache(tmp_path / "file"), Maker()
    with pytest.warns(UserWarning, match="cannot be written"):
        assert torch.equal(cache.get_or_compute("key", make)["numbers"], torch.ones(1000))
    assert torch.equal(cache.get_or_compute("key", make)["numbers"], torch.ones(1000))  # no second warning
