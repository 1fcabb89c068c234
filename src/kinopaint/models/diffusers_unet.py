"""A diffusers `UNet2DConditionModel` as a Backbone: branches × frames in one call, attention open to interventions."""

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, DownBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from kinopaint.adapters.ip_adapter import IpAdapter
from kinopaint.adapters.lora import Lora
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.feature_cache import FeatureCache
from kinopaint.engine.interventions import AttentionCall, FeatureCall, FeatureHook, Intervention, Site, chained
from kinopaint.engine.schedule import Step
from kinopaint.errors import ShapeError
from kinopaint.models.compiling import compile_blocks
from kinopaint.models.controlnet import Control, residuals
from kinopaint.models.graphs import GraphedCalls
from kinopaint.models.layers import Linear, quicken
from kinopaint.types import Latents

_ENCODER_BLOCKS = (CrossAttnDownBlock2D, DownBlock2D)
_GRAPH_DEVICE = "cuda"


class DiffusersBackbone:
    """The network with its weights frozen; gradients flow to the latents if those ask for them.

    Samples are laid out branch by branch: sample = branch * frames + frame. `batch` bounds the samples of one call
    (whole frames, all branches); a call with interventions or feature hooks is never split, as frames may see each
    other there. Latents are taken and noise is given in fp32, whatever the weights' precision.

    Input channels are those of the latents, then `image_channels` for the frame (None in a condition: zeros), then
    `structure_channels`, which every condition must fill.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        prediction_type: str,
        *,
        image_channels: int,
        structure_channels: int = 0,
        pixels_per_cell: int = 8,
        batch: int = 24,
    ) -> None:
        network: Any = unet
        self.unet = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        quicken(network)
        if type(network.time_embedding) is TimestepEmbedding:
            network.time_embedding.__class__ = _OneTime
        self._words = _Words()
        self.prediction_type, self.batch = prediction_type, batch
        self.image_channels, self.structure_channels = image_channels, structure_channels
        self.latent_channels: int = network.config.in_channels - image_channels - structure_channels
        self.pixels_per_cell = pixels_per_cell
        self.cache: FeatureCache | None = None
        self.graphs: GraphedCalls | None = None
        self.controls: tuple[Control, ...] = ()
        self.picture_adapters: tuple[IpAdapter, ...] = ()
        self.wants_pooled = network.config.get("addition_embed_type") == "text_time"  # SDXL
        network.set_attn_processor({name: _Processor(name.removesuffix(".processor")) for name in unet.attn_processors})

    def predict(
        self,
        latents: Latents,
        step: Step,
        conditions: Sequence[Condition],
        *,
        interventions: Sequence[Intervention] = (),
        features: Sequence[FeatureHook] = (),
    ) -> Float[Tensor, "term frame channel height width"]:
        """See Backbone. Raises ShapeError if latents, images or texts do not fit the network or each other."""
        self._check(latents, conditions)
        frames, channels, height, width = latents.shape[-4:]
        terms = len(conditions)
        dtype, device = self.unet.dtype, self.unet.device

        extra = self.image_channels + self.structure_channels
        sample = torch.zeros(terms, frames, channels + extra, height, width, dtype=dtype, device=device)
        sample[:, :, :channels] = latents
        for branch, condition in enumerate(conditions):
            if condition.image is not None:
                sample[branch, :, channels : channels + self.image_channels] = condition.image
            if condition.structure is not None:
                sample[branch, :, channels + self.image_channels :] = condition.structure
        text = torch.stack([condition.text.states for condition in conditions]).to(device, dtype)
        told = int(step.timestep) if step.timestep.is_integer() else step.timestep
        timestep = torch.tensor([told], device=device)

        interventions = [*interventions, *self._looking_at_pictures(conditions)]
        branches = tuple(condition.branch for condition in conditions)
        words = _TextCall(self._words, [condition.text.states for condition in conditions])
        watched = bool(interventions or features)
        if not watched and self.batch < terms and terms > 1:  # not even one frame's branches fit: one by one
            return torch.cat(
                [
                    self.predict(latents if latents.ndim == 4 else latents[branch], step, [condition])
                    for branch, condition in enumerate(conditions)
                ]
            )
        share = frames if watched else max(1, self.batch // terms)
        controls = self.controls if conditions[0].controlled else ()
        hints = [torch.stack(each) for each in zip(*(condition.hints for condition in conditions), strict=True)]
        outputs = []
        for begin, part in zip(range(0, frames, share), torch.split(sample, share, dim=1), strict=True):
            count = part.shape[1]
            shown = [each[:, begin : begin + count].flatten(0, 1) for each in hints] if controls else []
            texts = text[:, None].expand(-1, count, -1, -1).flatten(0, 1)
            inside = _Pass(interventions, step, branches, count, (height, width), words)
            added = self._added(conditions, count, height, width)
            flat = part.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            control = residuals(controls, step, flat[:, :channels], timestep, texts, shown, added)
            plain = not (features or controls or torch.is_grad_enabled())
            free = plain and not watched
            cache = self.cache if plain else None
            kind = branches, flat.shape
            deep = cache.recall(step, kind, full=watched) if cache else None
            inputs = {"sample": flat, "timestep": timestep, "texts": texts, **(added or {})}
            if deep is not None:
                inputs["deep"] = deep
            keeps = cache is not None and deep is None
            evaluate = partial(self._evaluate, inside=inside, added=tuple(added or ()), control=control, keeps=keeps)
            with self._hooked(features, inside):
                if self.graphs is not None and free and flat.device.type == _GRAPH_DEVICE:
                    said = tuple(_identity(each.text.states) for each in conditions)
                    output, *kept = self.graphs((branches, said, keeps), inputs, evaluate, held=inside)
                else:
                    output, *kept = evaluate(inputs)
            if cache is not None and kept:
                cache.keep(kind, kept[0])
            outputs.append(output.float().view(terms, count, *output.shape[1:]))
        return self._as_noise(torch.cat(outputs, dim=1), latents, step)

    def _evaluate(
        self,
        given: Mapping[str, Tensor],
        *,
        inside: "_Pass",
        added: Sequence[str],
        control: Mapping[str, Any],
        keeps: bool,
    ) -> tuple[Tensor, ...]:
        """The network's answer; with `keeps` also its deep features, which are used where they are `given`."""
        with self._deep(given.get("deep"), keeps=keeps) as kept:
            output = self.unet(
                given["sample"],
                given["timestep"],
                given["texts"],
                cross_attention_kwargs={"inside": inside},
                added_cond_kwargs={name: given[name] for name in added} if added else None,
                **control,
                return_dict=False,
            )[0]
        return output, *kept

    def sized(self, samples: int) -> "DiffusersBackbone":
        """This network with at most so many pictures in one call."""
        twin = copy.copy(self)
        twin.batch = samples
        return twin if twin.graphs is None else twin.graphed()  # with other shapes, what is recorded is a burden

    def caching(self, every: int) -> "DiffusersBackbone":
        """This network, with deep features reused (see FeatureCache); calls that somebody watches (see `reuses`), that
        ask for gradients or that a ControlNet steers are always full, and so is a network with blocks of other kinds.
        """
        if not all(isinstance(block, _ENCODER_BLOCKS) for block in self.unet.down_blocks):
            return self
        twin = copy.copy(self)
        twin.cache = FeatureCache(every)
        return twin

    def reuses(self, step: Step) -> bool:
        """Whether calls of this step may run on features of an earlier one, unless they are watched."""
        return self.cache is not None and not self.controls and self.cache.reuses(step)

    def graphed(self) -> "DiffusersBackbone":
        """This network with its calls recorded as CUDA graphs, where it is on such a device; calls that somebody
        watches, that ask for gradients or that a ControlNet steers never are.
        """
        twin = copy.copy(self)
        twin.graphs = GraphedCalls()
        return twin

    def compile(self) -> None:
        """Compile the network's repeated blocks (see compile_blocks), for every twin of this."""
        compile_blocks(self.unet)

    @contextmanager
    def adapted(self, *adapters: Lora) -> Iterator["DiffusersBackbone"]:
        """This network with the changes of `adapters`, for a while; leaving gives back the very same parameters."""
        with ExitStack() as stack:
            for adapter in adapters:
                stack.enter_context(adapter.applied({"unet": self.unet}))
            kept, graphs = self._words, self.graphs  # keys and values of words, and recordings, belong to the weights
            self._words, self.graphs = _Words(), None
            try:
                yield self
            finally:
                self._words, self.graphs = kept, graphs

    def _looking_at_pictures(self, conditions: Sequence[Condition]) -> list[Intervention]:
        return [
            adapter.acting_on(torch.stack([condition.text.pictures[index] for condition in conditions]))
            for index, adapter in enumerate(self.picture_adapters)
        ]

    def _added(self, conditions: Sequence[Condition], frames: int, height: int, width: int) -> dict[str, Tensor] | None:
        """What SDXL is told besides the words' states: each text in one vector, and the picture's size, uncropped."""
        if not self.wants_pooled:
            return None
        dtype, device = self.unet.dtype, self.unet.device
        pooled = torch.stack([condition.text.pooled for condition in conditions if condition.text.pooled is not None])
        size = [height * self.pixels_per_cell, width * self.pixels_per_cell]
        sizes = torch.tensor([*size, 0, 0, *size], dtype=dtype, device=device)  # original, crop, target
        return {
            "text_embeds": pooled.to(device, dtype).repeat_interleave(frames, 0),
            "time_ids": sizes.expand(len(conditions) * frames, -1),
        }

    def _as_noise(self, output: Tensor, latents: Tensor, step: Step) -> Tensor:
        """The network's answer as a noise prediction, by latents = alpha * clean + sigma * noise."""
        if self.prediction_type == "v_prediction":  # v = alpha * noise - sigma * clean
            return step.alpha * output + step.sigma * latents
        if self.prediction_type == "sample":
            return (latents - step.alpha * output) / step.sigma
        return output

    def _check(self, latents: Tensor, conditions: Sequence[Condition]) -> None:
        if not conditions:
            raise ShapeError("a prediction needs at least one condition")
        if latents.ndim not in (4, 5) or (latents.ndim == 5 and len(latents) != len(conditions)):
            raise ShapeError(
                f"latents have shape {tuple(latents.shape)} for {len(conditions)} conditions",
                fix="give (frame, channel, height, width), or one of these for each condition",
            )
        if latents.shape[-3] != self.latent_channels:
            raise ShapeError(f"latents have {latents.shape[-3]} channels, the network takes {self.latent_channels}")
        for condition in conditions:
            for name, channels in (("image", self.image_channels), ("structure", self.structure_channels)):
                given, expected = getattr(condition, name), (channels, *latents.shape[-2:])
                if given is not None and (given.shape[1:] != expected or len(given) not in (1, latents.shape[-4])):
                    raise ShapeError(
                        f"the {name} of branch {condition.branch!r} has shape {tuple(given.shape)}, "
                        f"expected ({latents.shape[-4]}, {', '.join(map(str, expected))})"
                    )
            if self.structure_channels and condition.structure is None:
                raise ShapeError(
                    "the network sees a structure in every branch", fix="predict with tied_to(frames, parts)"
                )
            for name, count, told in (
                ("hints", len(self.controls), condition.hints),
                ("pictures", len(self.picture_adapters), condition.text.pictures),
            ):
                if count != len(told):
                    raise ShapeError(
                        f"branch {condition.branch!r} has {len(told)} {name}, the model takes {count}",
                        fix="predict with tied_to(frames, parts), and with texts of encode_prompt(prompt, parts)",
                    )
            if self.wants_pooled and condition.text.pooled is None:
                raise ShapeError("the network takes each text as one vector, too", fix="use the model's text encoder")

    @contextmanager
    def _hooked(self, features: Sequence[FeatureHook], inside: "_Pass") -> Iterator[None]:
        """Let `features` act on the inputs of the decoder blocks, for one call."""

        def act(
            path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]]:
            feature = inside.apart(kwargs["hidden_states"])
            for hook in features:
                feature = hook(FeatureCall(feature, path, inside.step, inside.branches))
            return args, {**kwargs, "hidden_states": feature.flatten(0, 1)}

        handles = (
            [
                block.register_forward_pre_hook(partial(act, f"up_blocks.{index}"), with_kwargs=True)
                for index, block in enumerate(self.unet.up_blocks)
            ]
            if features
            else []
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _deep(self, deep: Tensor | None, *, keeps: bool) -> Iterator[list[Tensor]]:
        """For one call, go directly to the last decoder block with `deep`; or list what enters it."""
        kept: list[Tensor] = []
        if keeps:

            def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                kept.append(kwargs["hidden_states"])

            handle = self.unet.up_blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
            try:
                yield kept
            finally:
                handle.remove()
            return
        if deep is None:
            yield kept
            return
        inner = [*self.unet.down_blocks[1:], self.unet.mid_block, *self.unet.up_blocks[:-1]]
        for block in inner:  # an attribute of the instance comes before the method of its class
            block.forward = partial(_skipped, block, deep)
        try:
            yield kept
        finally:
            for block in inner:
                del block.forward


def _skipped(block: nn.Module, deep: Tensor, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """In place of a deep block: an encoder block's skip connections are wanted in number only."""
    if not isinstance(block, _ENCODER_BLOCKS):
        return deep
    modules: Any = block
    return hidden_states, (hidden_states,) * (len(modules.resnets) + bool(modules.downsamplers))


@dataclass(frozen=True)
class _Pass:
    """What an attention layer needs to know of the forward pass it is in."""

    interventions: Sequence[Intervention]
    step: Step
    branches: tuple[str, ...]
    frames: int
    latent_size: tuple[int, int]
    words: "_TextCall"

    def apart(self, samples: Tensor) -> Tensor:
        """(branch frame) … -> branch frame …"""
        return samples.reshape(len(self.branches), self.frames, *samples.shape[1:])

    def size_of(self, tokens: int) -> tuple[int, int]:
        """Height and width of the feature map with so many cells: the latents', halved with rounding up."""
        height, width = self.latent_size
        while height * width > tokens:
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width


class _OneTime(TimestepEmbedding):
    """All samples of a call are at one time step: it is embedded once, and broadcast."""

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        result: Tensor = super().forward(sample[:1], condition)
        return result


_Read = tuple[Hashable, tuple[Tensor, Tensor], Tensor, Tensor]  # which weights, these weights, keys, values


class _Words:
    """What cross-attention reads of a text, its keys and values in every layer: computed once for the whole run."""

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._kept: dict[Hashable, tuple[Sequence[Tensor], dict[str, _Read]]] = {}

    def layers(self, texts: Sequence[Tensor]) -> dict[str, _Read]:
        """What each layer made of `texts`; these are held, so that no other tensor can look like them."""
        key = tuple(_identity(text) for text in texts)
        if key not in self._kept:
            self._kept[key] = (texts, {})
            if len(self._kept) > self.most:
                del self._kept[next(iter(self._kept))]
        return self._kept[key][1]


def _identity(tensor: Tensor) -> Hashable:
    """What no other tensor has while this one lives, and what it will not have once it is written to."""
    version = -1 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tuple(tensor.shape), tensor.stride()


class _TextCall:
    """The texts of one call, one for each branch."""

    def __init__(self, words: _Words, texts: Sequence[Tensor]) -> None:
        self.texts, self.layers = texts, words.layers(texts)

    def keys_and_values(self, attn: Attention, path: str) -> tuple[Tensor, Tensor] | None:
        """(branch 1 head token channel) each; None if they may change from call to call."""
        if torch.is_grad_enabled() or type(attn.to_k) is not Linear or type(attn.to_v) is not Linear:
            return None
        weights = _identity(attn.to_k.weight), _identity(attn.to_v.weight)
        known = self.layers.get(path)
        if known is None or known[0] != weights:
            text = torch.stack(list(self.texts)).to(attn.to_k.weight)

            def heads(tensor: Tensor) -> Tensor:
                split = tensor.view(*tensor.shape[:2], attn.heads, -1)
                return split.transpose(1, 2)[:, None].contiguous()

            held = (
                attn.to_k.weight.detach(),
                attn.to_v.weight.detach(),
            )  # no other weights can take their place in memory
            known = self.layers[path] = (weights, held, heads(attn.to_k(text)), heads(attn.to_v(text)))
        return known[2], known[3]


class _Processor(AttnProcessor2_0):
    """Attention that is open to interventions, and that reads each text once."""

    def __init__(self, path: str) -> None:
        self.path = path  # the base class only checks that torch has fused attention

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        inside: _Pass | None = None,
    ) -> Tensor:
        if inside is None or hidden_states.ndim == 4:  # 4: blocks without text, which Stable Diffusion has not
            plain: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain

        def heads(tensor: Tensor) -> Tensor:  # (branch frame) token (head channel) -> branch frame head token channel
            return inside.apart(tensor.view(*tensor.shape[:2], attn.heads, -1)).transpose(2, 3)

        is_cross = encoder_hidden_states is not None
        read = inside.words.keys_and_values(attn, self.path) if is_cross else None
        if read is None:
            context = encoder_hidden_states if is_cross else hidden_states
            key, value = heads(attn.to_k(context)), heads(attn.to_v(context))
        else:
            key, value = (tensor.expand(-1, inside.frames, -1, -1, -1) for tensor in read)
        height, width = inside.size_of(hidden_states.shape[1])
        site = Site(self.path, is_cross, height, width)
        call = AttentionCall(heads(attn.to_q(hidden_states)), key, value, site, inside.step, inside.branches)
        result: Tensor = chained(inside.interventions)(call)
        joined = result.transpose(2, 3).flatten(3).flatten(0, 1)
        output: Tensor = attn.to_out[1](attn.to_out[0](joined))
        return output if attn.rescale_output_factor == 1 else output / attn.rescale_output_factor
