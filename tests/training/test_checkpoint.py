"""A training run goes on from where its checkpoint says; a half-written one is never taken for whole."""

import pytest
import torch
from training.checkpoint import resumed, write


def trained():
    network = torch.nn.Linear(2, 3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return {"model": network, "optimiser": optimiser}


def test_a_run_goes_on_where_it_was(tmp_path):
    first, second, file = trained(), trained(), tmp_path / "checkpoint.pt"
    write(file, first, step=7, spent=1.5)
    assert resumed(file, second, step=0, spent=0.0) == (7, 1.5)
    torch.testing.assert_close(second["model"].state_dict(), first["model"].state_dict())
    torch.testing.assert_close(second["optimiser"].state_dict(), first["optimiser"].state_dict())
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_without_a_checkpoint_a_run_begins(tmp_path):
    assert resumed(tmp_path / "checkpoint.pt", trained(), step=0, spent=0.0, seen=0) == (0, 0.0, 0)


def test_what_breaks_while_writing_leaves_the_last_one(tmp_path, monkeypatch):
    parts, file = trained(), tmp_path / "checkpoint.pt"
    write(file, parts, step=1)

    def broken(state, part):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        write(file, parts, step=2)
    assert resumed(file, parts, step=0) == (1,)
