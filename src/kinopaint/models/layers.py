"""diffusers' layers with quicker forwards: the same weights under the same names, the same results up to rounding.

`quicken` swaps the classes of a network's modules in place. Most layers that are asked for gradients, and all that are
built in a way that Stable Diffusion is not, run diffusers' own forward. What is saved: on the CPU, linear layers and
1 × 1 convolutions go to oneDNN, which in fp32 is twice as quick as MKL on processors not Intel's; the memory layout
stays channels-last from end to end, where diffusers' transformer goes back and forth; the shift of the time step joins
a convolution's bias; a convolution after doubling works on the small map; sums and activations are made in place,
or by the layer before them.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.autoencoders.vae import DecoderTiny
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from kinopaint.models.tiny_decoder import TinyDecoder

_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_KINDS = (
    {torch.float32, torch.bfloat16} if _ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported() else {torch.float32}
)


def quicken(network: nn.Module) -> None:
    """Swap the classes of all modules of `network` for which there is a quicker one."""
    for module in network.modules():
        quicker = _QUICKER.get(type(module))
        if quicker is None or (isinstance(module, nn.Conv2d) and not _is_pointwise(module)):
            continue
        module.__class__ = quicker


def _by_onednn(input: Tensor) -> bool:
    """Whether oneDNN's own layers can be had: on the CPU, without gradients; torch.compile chooses on its own."""
    free = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    return _ONEDNN and free and input.device.type == "cpu" and input.dtype in _KINDS


def linear(input: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """`F.linear`, with `gelu` then that, by oneDNN where that can be had."""
    if _by_onednn(input):
        exact = "none"  # no approximation of it
        after: tuple[str, list[float], str] = ("gelu", [], exact) if gelu else ("none", [], "")
        result: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, *after)
        return result
    return F.gelu(F.linear(input, weight, bias)) if gelu else F.linear(input, weight, bias)


def linear_times(input: Tensor, weight: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
    """`F.linear`, times `factor`, which is as large as its result."""
    if _by_onednn(input):
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(input, factor, weight, bias, "mul")
        return result
    return F.linear(input, weight, bias).mul_(factor)


def convolution(
    input: Tensor, layer: nn.Conv2d, bias: Tensor | None, *, added: Tensor | None = None, relu: bool = False
) -> Tensor:
    """What `layer` with this bias makes of `input`, plus `added`, then with `relu` only what is positive."""
    plain = layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    strewn = added is not None and not added.is_contiguous(memory_format=torch.channels_last)
    if plain or strewn or not _by_onednn(input):
        result = layer._conv_forward(input, layer.weight, bias)
        result = result if added is None else result.add_(added)
        return F.relu(result, inplace=True) if relu else result
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    one_kernel = torch.ops.mkldnn._convolution_pointwise
    if added is None:
        fused: Tensor = one_kernel(input, layer.weight, bias, *shape, "relu" if relu else "none", [], "")
        return fused
    fused = one_kernel.binary(input, added, layer.weight, bias, *shape, "add", None, "relu" if relu else None, [], None)
    return fused


class _FrozenLinear(torch.autograd.Function):
    """A linear layer with weights that are not trained, by oneDNN in both directions."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return linear(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return linear(gradients[0].contiguous(), ctx.weight.t().contiguous(), None), None, None


class Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        frozen = not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))
        wanted = torch.is_grad_enabled() and input.requires_grad and input.device.type == "cpu"
        if wanted and frozen and not torch.is_autocast_enabled("cpu"):
            result: Tensor = _FrozenLinear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return result
        return linear(input, self.weight, self.bias)


class ReLU(nn.ReLU):
    """In place: in diffusers' networks it follows a layer or a sum, whose result nothing else asks for."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input, inplace=True)


class PointwiseConvolution(nn.Conv2d):
    """A 1 × 1 convolution: a linear layer along the channels, which in channels-last lie side by side."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.device.type != "cpu":
            return super().forward(input)
        return linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def _is_pointwise(module: nn.Conv2d) -> bool:
    return (
        module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and module.groups == 1
        and module.padding in ((0, 0), "valid")
    )


class GroupNorm(nn.GroupNorm):
    """Group normalisation that goes through fp32 where that is quicker.

    On the CPU, torch's kernel for channels-last half precision takes 4 to 6 times as long as fp32 on maps of less than
    1024 cells (2.13, AMX): a quarter of the time of a small U-Net.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == torch.float32 or input.device.type != "cpu" or input[0, 0].numel() >= 1024:
            return super().forward(input)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


class GatedGELU(GEGLU):
    """value · gelu(gate), each half of the projection on its own, so that neither is a view with gaps."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled() or args or kwargs or type(self.proj) is not Linear:
            return super().forward(hidden_states, *args, **kwargs)
        (value, gate), bias = self.proj.weight.chunk(2), self.proj.bias
        value_bias, gate_bias = (None, None) if bias is None else bias.chunk(2)
        return linear_times(hidden_states, value, value_bias, linear(hidden_states, gate, gate_bias, gelu=True))


class Upsample(Upsample2D):
    """Doubling by the nearest neighbour, then a 3 × 3 convolution: four 2 × 2 convolutions of the small map instead.

    Each output cell sees only 2 × 2 different input cells, so the weights that meet the same cell are added up
    beforehand: 4/9 of the multiplications. On the CPU only; a GPU would wait for the smaller kernels.
    """

    _phases: tuple[tuple[int, int], Tensor, list[Tensor]] | None = None

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        size = hidden_states.shape[-2:]
        conv: Any = self.conv if self.use_conv and self.name == "conv" else None
        usual = (
            type(conv) is nn.Conv2d
            and (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
            and self.interpolate
            and self.norm is None
            and (output_size is None or tuple(output_size) == (2 * size[0], 2 * size[1]))
        )
        slow = torch.is_grad_enabled() or hidden_states.device.type != "cpu"
        if slow or not usual or args or kwargs:
            result: Tensor = super().forward(hidden_states, output_size, *args, **kwargs)
            return result
        mark = conv.weight.data_ptr(), conv.weight._version
        if self._phases is None or self._phases[0] != mark:
            self._phases = mark, conv.weight.detach(), phases(conv.weight)  # held: no other weights can have its place
        batch, (height, width) = len(hidden_states), size
        around = F.pad(hidden_states, (1, 1, 1, 1))
        output = torch.empty(
            (batch, conv.out_channels, 2 * height, 2 * width),
            dtype=hidden_states.dtype,
            memory_format=torch.channels_last,
        )
        for phase, weight in enumerate(self._phases[2]):
            down, right = divmod(phase, 2)
            part = around[..., down : down + height + 1, right : right + width + 1]
            output[..., down::2, right::2] = F.conv2d(part, weight, conv.bias)
        return output


def phases(weight: Tensor) -> list[Tensor]:
    """The four 2 × 2 kernels that a 3 × 3 kernel is on a map of doubled cells: upper left, upper right, lower …"""

    def halves(kernel: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        first, middle, last = kernel.unbind(axis)
        return torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)

    kernels = [kernel for rows in halves(weight.detach().float(), 2) for kernel in halves(rows, 3)]
    return [kernel.to(weight.dtype).contiguous(memory_format=torch.channels_last) for kernel in kernels]


class Resnet(ResnetBlock2D):
    def forward(self, input_tensor: Tensor, temb: Any, *args: Any, **kwargs: Any) -> Tensor:
        usual = (
            self.time_embedding_norm == "default"
            and self.output_scale_factor == 1
            and not (self.up or self.down or self.skip_time_act)
            and isinstance(self.nonlinearity, nn.SiLU)
            and type(self.conv1) is nn.Conv2d
            and type(self.conv2) is nn.Conv2d
        )
        if torch.is_grad_enabled() or not usual or args or kwargs:
            return super().forward(input_tensor, cast("Tensor", temb), *args, **kwargs)
        hidden = F.silu(self.norm1(input_tensor), inplace=True)
        if temb is None or self.time_emb_proj is None:
            hidden = self.conv1(hidden)
        else:
            shift = self.time_emb_proj(F.silu(temb))
            if len(shift) == 1:
                bias = shift[0] if self.conv1.bias is None else self.conv1.bias + shift[0]
                hidden = convolution(hidden, self.conv1, bias)
            else:
                hidden = self.conv1(hidden).add_(shift[..., None, None])
        past = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return convolution(F.silu(self.norm2(hidden), inplace=True), self.conv2, self.conv2.bias, added=past)


class TinyBlock(AutoencoderTinyBlock):
    """Convolutions with their activation, and the last with the sum, in one go."""

    def forward(self, x: Tensor) -> Tensor:
        parts: Any = self.conv
        first, middle, last = parts[0], parts[2], parts[4]
        usual = isinstance(self.fuse, nn.ReLU) and all(isinstance(parts[i], nn.ReLU) for i in (1, 3))
        if torch.is_grad_enabled() or not usual or any(type(c) is not nn.Conv2d for c in (first, middle, last)):
            result: Tensor = super().forward(x)
            return result
        hidden = convolution(convolution(x, first, first.bias, relu=True), middle, middle.bias, relu=True)
        return convolution(hidden, last, last.bias, added=self.skip(x), relu=True)


class TransformerBlock(BasicTransformerBlock):
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Any = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Any = None,
        added_cond_kwargs: Any = None,
    ) -> Tensor:
        more = cross_attention_kwargs or {}
        usual = (
            self.norm_type == "layer_norm"
            and self.pos_embed is None
            and self.attn2 is not None
            and not self.only_cross_attention
            and self._chunk_size is None
        )
        masked = attention_mask is not None or encoder_attention_mask is not None
        if torch.is_grad_enabled() or not usual or masked or "gligen" in more:
            plain: Any = super().forward
            result: Tensor = plain(
                hidden_states,
                attention_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                timestep,
                cross_attention_kwargs,
                class_labels,
                added_cond_kwargs,
            )
            return result
        tokens: Tensor = self.attn1(self.norm1(hidden_states), **more).add_(hidden_states)
        words = {"encoder_hidden_states": encoder_hidden_states}
        tokens = self.attn2(self.norm2(tokens), **words, **more).add_(tokens)
        tokens = self.ff(self.norm3(tokens)).add_(tokens)
        return tokens


class Transformer(Transformer2DModel):
    """Tokens and maps are two views of the same channels-last memory."""

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **more: Any
    ) -> Any:
        known = {"timestep", "cross_attention_kwargs", "return_dict"}
        usual = self.is_input_continuous and all(more[name] is None for name in more.keys() - known)
        if torch.is_grad_enabled() or not usual:
            return super().forward(hidden_states, encoder_hidden_states, **more)
        batch, channels, height, width = hidden_states.shape
        tokens = self.norm(hidden_states).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        tokens = _along_channels(self.proj_in, tokens)
        for block in self.transformer_blocks:
            tokens = block(
                tokens,
                encoder_hidden_states=encoder_hidden_states,
                timestep=more.get("timestep"),
                cross_attention_kwargs=more.get("cross_attention_kwargs"),
            )
        tokens = _along_channels(self.proj_out, tokens)
        output = tokens.view(batch, height, width, -1).permute(0, 3, 1, 2).add_(hidden_states)
        return Transformer2DModelOutput(sample=output) if more.get("return_dict", True) else (output,)


def _along_channels(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1 × 1 convolution, on (batch, token, channel)."""
    if isinstance(layer, nn.Conv2d):
        return linear(tokens, layer.weight.flatten(1), layer.bias)
    result: Tensor = layer(tokens)
    return result


_QUICKER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    nn.ReLU: ReLU,
    nn.Conv2d: PointwiseConvolution,
    nn.GroupNorm: GroupNorm,
    GEGLU: GatedGELU,
    ResnetBlock2D: Resnet,
    AutoencoderTinyBlock: TinyBlock,
    Upsample2D: Upsample,
    BasicTransformerBlock: TransformerBlock,
    Transformer2DModel: Transformer,
    DecoderTiny: TinyDecoder,
}
