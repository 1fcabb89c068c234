"""Where networks are trained: the device as asked for, half precision only where the machine multiplies in it."""

import argparse

import pytest
import torch
from training import device

CPU = torch.device("cpu")


@pytest.mark.parametrize("quick", [torch.bfloat16, torch.float32])
def test_half_precision_where_it_is_quick(quick, monkeypatch):
    monkeypatch.setattr(device, "choose_dtype", lambda name, where: quick)
    one = torch.ones(2, 2)
    with device.half_precision(CPU):
        assert (one @ one).dtype == quick


def test_the_device_is_an_option():
    parser = argparse.ArgumentParser()
    device.add_device(parser)
    assert parser.parse_args(["--device", "cpu"]).device == CPU
    assert isinstance(parser.parse_args([]).device, torch.device)
