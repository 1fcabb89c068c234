"""T27, T28, T30, T31, T39 and T40 of the refinement network, at its published width where that matters."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from kinopaint.engine.components import Refiner
from kinopaint.errors import ModelError
from kinopaint.models import load_model
from kinopaint.models.refiner import RefinementNet, _ConvLstm, _Residual, without_unused_norms


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return RefinementNet(width=4, blocks=2).eval().requires_grad_(False)


def test_the_published_width_has_the_published_number_of_parameters_and_names():
    with torch.device("meta"):
        full = RefinementNet()
    assert sum(parameter.numel() for parameter in full.parameters()) == 2_979_555
    stems = {name.rsplit(".", 1)[0] for name in full.state_dict()}
    blocks = {f"ResBlocks.{i}.conv{j}.conv2d" for i in range(5) for j in (1, 2)}
    ends = {
        f"{name}.conv2d" for name in ("conv1a", "conv1b", "conv2a", "conv2b", "conv3", "deconv1", "deconv2", "deconv3")
    }
    assert stems == blocks | ends | {"convlstm.Gates"}
    frames = torch.zeros(1, 3, 8, 8, device="meta")
    assert full(frames, frames, frames, frames)[0].shape == (1, 3, 8, 8)


def test_the_published_width_runs():
    torch.manual_seed(0)
    full = RefinementNet().eval().requires_grad_(False)
    frames = torch.rand(4, 1, 3, 16, 20)
    refined, (hidden, cell) = full(*frames)
    assert refined.shape == (1, 3, 16, 20)
    assert hidden.shape == cell.shape == (1, 128, 4, 5)
    assert ((refined - frames[0]).abs() < 1).all()


def test_zero_weights_return_the_painted_frame(net):
    zero = RefinementNet(width=4, blocks=2)
    zero.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in zero.state_dict().items()})
    frames = torch.rand(4, 2, 3, 12, 16)
    assert torch.equal(zero(*frames)[0], frames[0])
    assert not torch.allclose(net(*frames)[0], frames[0], atol=1e-4)


def test_a_residual_block_has_no_activation_after_the_sum():
    block = _Residual(3)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    block.conv2.conv2d.bias.data.fill_(-1)
    features = torch.randn(1, 3, 5, 5)
    assert torch.allclose(block(features), features - 1)


def test_the_gates_are_in_forget_out_cell():
    lstm = _ConvLstm(1)
    torch.nn.init.zeros_(lstm.Gates.weight)
    lstm.Gates.bias.data.copy_(torch.tensor([0.3, -0.8, 1.1, 0.6]))
    enter, forget, leave, new = (torch.tensor(value) for value in (0.3, -0.8, 1.1, 0.6))
    features = torch.zeros(1, 1, 2, 2)
    first, state = lstm(features, None)
    assert torch.allclose(first, leave.sigmoid() * (enter.sigmoid() * new.tanh()).tanh())
    second, _ = lstm(features, (first, state))
    expected = leave.sigmoid() * ((1 + forget.sigmoid()) * enter.sigmoid() * new.tanh()).tanh()
    assert torch.allclose(second, expected)


@pytest.mark.parametrize(("height", "width"), [(13, 18), (12, 17), (15, 15)])
def test_padding_is_cropped_not_squeezed(net, height, width):
    """A size that is no multiple of 4 gives what the frame gives that somebody padded by repetition."""
    frames = torch.rand(4, 1, 3, height, width)
    padded = torch.nn.functional.pad(frames.flatten(0, 1), (0, -width % 4, 0, -height % 4), mode="replicate")
    padded = padded.unflatten(0, (4, 1))
    result = net(*frames)[0]
    assert result.shape == (1, 3, height, width)
    assert torch.allclose(result, net(*padded)[0][..., :height, :width], atol=1e-6)


def test_a_shift_by_a_multiple_of_four_shifts_the_result(net):
    wide = torch.rand(4, 1, 3, 16, 128)
    first, second = net(*wide[..., :120])[0], net(*wide[..., 8:])[0]
    assert torch.allclose(first[..., 56:72], second[..., 48:64], atol=1e-5)


def test_skips_come_from_the_painted_side_only(net):
    """The second group reaches the result only through the half-size features: at most a change of that grain."""
    for name in ("conv1b", "conv2b"):
        assert hasattr(net, name)
    assert net.deconv2.conv2d.in_channels == 16
    assert net.deconv3.conv2d.in_channels == 8
    frames = torch.rand(4, 1, 3, 16, 16)
    silent = RefinementNet(width=4, blocks=2)
    state = dict(net.state_dict())
    weight = state["conv3.conv2d.weight"].clone()
    weight[:, 8:] = 0  # what half_b gives
    silent.load_state_dict({**state, "conv3.conv2d.weight": weight})
    other = torch.stack([frames[0], frames[1], *torch.rand(2, 1, 3, 16, 16)])
    assert torch.equal(silent(*frames)[0], silent(*other)[0])
    assert not torch.equal(net(*frames)[0], net(*other)[0])


@pytest.mark.parametrize("carried", [False, True])
def test_layer_by_layer(net, carried):
    """The network written out from its published table of layers: the weights of others need every one of them."""
    painted, earlier, guide, earlier_guide = torch.rand(4, 1, 3, 12, 16)
    hidden, cell = torch.randn(2, 1, 16, 3, 4)
    weights = net.state_dict()

    def conv(name, features, stride=1):
        kernel, bias = weights[f"{name}.conv2d.weight"], weights[f"{name}.conv2d.bias"]
        wide = F.pad(features, (kernel.shape[-1] // 2,) * 4, mode="reflect")
        return F.conv2d(wide, kernel, bias, stride)

    def leaky(features):
        return torch.where(features > 0, features, 0.2 * features)

    def doubled(features):
        return features.repeat_interleave(2, -1).repeat_interleave(2, -2)

    e1a = leaky(conv("conv1a", torch.cat([painted, earlier], 1)))
    e1b = leaky(conv("conv1b", torch.cat([guide, earlier_guide], 1)))
    e2a, e2b = leaky(conv("conv2a", e1a, 2)), leaky(conv("conv2b", e1b, 2))
    features = leaky(conv("conv3", torch.cat([e2a, e2b], 1), 2))
    for block in ("ResBlocks.0", "ResBlocks.1"):
        features = features + conv(f"{block}.conv2", leaky(conv(f"{block}.conv1", features)))
    if not carried:
        hidden, cell = torch.zeros(2, 1, 16, 3, 4)
    gates = F.conv2d(
        torch.cat([features, hidden], 1), weights["convlstm.Gates.weight"], weights["convlstm.Gates.bias"], padding=1
    )
    enter, forget, leave, new = gates.split(16, 1)
    after = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    seen = leave.sigmoid() * after.tanh()
    half = leaky(conv("deconv1", doubled(seen)))
    full = leaky(conv("deconv2", doubled(torch.cat([half, e2a], 1))))
    expected = painted + torch.tanh(conv("deconv3", torch.cat([full, e1a], 1)))

    refined, state = net(painted, earlier, guide, earlier_guide, (hidden, cell) if carried else None)
    assert torch.allclose(refined, expected, atol=1e-5)
    assert torch.allclose(state[0], seen, atol=1e-5)
    assert torch.allclose(state[1], after, atol=1e-5)


def write_refiner(folder, network, extra=()):
    folder.mkdir()
    save_file({**network.state_dict(), **dict(extra)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"width": 4, "blocks": 2, "guide": "source", "carries_state": True}))


def test_norm_buffers_of_published_weights_are_skipped(broken, net):
    extra = {f"conv1a.norm_layer.{name}": torch.rand(4) for name in ("running_mean", "running_var")}
    extra["conv1a.norm_layer.num_batches_tracked"] = torch.tensor(7)
    assert set(without_unused_norms({**net.state_dict(), **extra})) == set(net.state_dict())
    write_refiner(broken / "refiner", net, extra)
    refiner = load_model(broken, device="cpu", dtype="float32").refiner
    assert isinstance(refiner, Refiner)
    assert (refiner.guide, refiner.carries_state) == ("source", True)
    frames = torch.rand(4, 1, 3, 8, 12)
    assert torch.allclose(refiner(*frames)[0], net(*frames)[0], atol=1e-6)


def test_weights_of_another_width_are_refused(broken):
    write_refiner(broken / "refiner", RefinementNet(width=6, blocks=2))
    with pytest.raises(ModelError) as caught:
        load_model(broken)
    assert caught.value.code == "KP-MODEL-KEYS"
