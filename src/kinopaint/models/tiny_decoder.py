"""The decoder of diffusers' `AutoencoderTiny`, with its last doubling and the two convolutions after it made one.

A decoder that ends in doubling, convolution, convolution, with no activation between these, is linear there: each pixel
is a weighted sum of 3 × 3 cells of the small map. For `mini` that saves a quarter of the decoder's work and its largest
maps, forwards and backwards. Only the outermost pixels are different, since the second convolution sees zeros beyond
the border and not what the first would have made there; they go the long way.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DecoderTiny
from jaxtyping import Float
from torch import Tensor, nn


class TinyDecoder(DecoderTiny):
    """The same weights under the same names, the same results up to rounding, gradients for the latents included.
    Decoders of another build, and those whose weights are being trained, run diffusers' own forward.
    """

    _kernel: tuple[tuple[int, ...], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        layers: Any = self.layers
        *before, doubling, first, second = layers
        usual = (
            isinstance(doubling, nn.Upsample)
            and (doubling.scale_factor, doubling.mode) == (2.0, "nearest")
            and _is_plain(first)
            and first.bias is None
            and _is_plain(second)
        )
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
        if not usual or trained:
            result: Tensor = super().forward(x)
            return result
        small = nn.Sequential(*before)(torch.tanh(x / 3) * 3)

        def long(strip: Tensor) -> Tensor:
            whole: Tensor = second(first(doubling(strip)))
            return whole

        small, *strips = _Borders.apply(small)  # type: ignore[no-untyped-call]
        top, bottom, left, right = (long(strip) for strip in strips)
        top, bottom, left, right = top[..., :1, :], bottom[..., -1:, :], left[..., 1:-1, :1], right[..., 1:-1, -1:]
        inner = F.pixel_shuffle(F.conv2d(small, self._both(first, second), padding=1), 2)[..., 1:-1, 1:-1]
        if second.bias is not None:
            inner = inner + second.bias[:, None, None]
        pixels = torch.cat([top, torch.cat([left, inner, right], -1), bottom], -2)
        return pixels.mul(2).sub(1)

    def _both(self, first: Any, second: Any) -> Tensor:
        weights = (first.weight, second.weight)
        mark = tuple(number for weight in weights for number in (weight.data_ptr(), weight._version))
        if self._kernel is None or self._kernel[0] != mark:
            kernel = doubled_convolutions(*weights).to(first.weight)
            self._kernel = mark, kernel.contiguous(memory_format=torch.channels_last)
        return self._kernel[1]


class _Borders(torch.autograd.Function):
    """A map and its outermost two rows and columns, which is what the long way needs for the outermost pixels.

    As slices would be, but that their gradients do not each become a map of zeros to add.
    """

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> tuple[Tensor, ...]:
        return whole.view_as(whole), *(strip.clone() for strip in _borders(whole))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole, *strips = gradients
        whole = whole.clone()
        for place, strip in zip(_borders(whole), strips, strict=True):
            place += strip
        return whole


def _borders(whole: Tensor) -> tuple[Tensor, ...]:
    return whole[..., :2, :], whole[..., -2:, :], whole[..., :2], whole[..., -2:]


def doubled_convolutions(
    first: Float[Tensor, "middle input 3 3"], second: Float[Tensor, "output middle 3 3"]
) -> Float[Tensor, "four_outputs input 3 3"]:
    """The kernel whose result `pixel_shuffle` turns into what both kernels in turn make of a map of doubled cells."""
    both = F.conv_transpose2d(second.detach().float(), first.detach().float())  # output input 5 5
    kernel = both.new_zeros(len(both), 2, 2, both.shape[1], 3, 3)
    for down in range(2):
        for right in range(2):
            for y in range(5):  # from two pixels above to two below, of which cells of the small map hold two each
                for x in range(5):
                    kernel[:, down, right, :, (down + y) // 2, (right + x) // 2] += both[:, :, y, x]
    return kernel.flatten(0, 2)


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) is nn.Conv2d and (
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    ) == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
