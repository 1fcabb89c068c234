"""What may act inside a forward pass: interventions around one attention, hooks on one feature map.

An intervention gets an AttentionCall and `proceed`, which runs the rest. It may change the call, change the result,
proceed twice, or not at all. Axes are never flattened here. The first intervention of a list is the outermost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.fused_attention import fused_attention
from kinopaint.engine.schedule import Step

Weights = Float[Tensor, "branch frame head query token"]
WeightEdit = Callable[[Weights], Weights]


@dataclass(frozen=True)
class Site:
    """Where in the network: a dotted path with Stable Diffusion's names, and the size of the feature map there."""

    path: str
    is_cross: bool  # keys from the text; else self-attention
    height: int
    width: int

    @property
    def is_self(self) -> bool:
        return not self.is_cross

    @property
    def in_encoder(self) -> bool:
        return self.path.startswith("down_blocks")

    @property
    def in_middle(self) -> bool:
        return self.path.startswith("mid_block")

    @property
    def in_decoder(self) -> bool:
        return self.path.startswith("up_blocks")


@dataclass(frozen=True)
class AttentionCall:
    """One attention of one forward pass: softmax(query · keyᵀ / √channel) · value, frame by frame."""

    query: Float[Tensor, "branch frame head query channel"]
    key: Float[Tensor, "branch frame head token channel"]
    value: Float[Tensor, "branch frame head token channel"]
    site: Site
    step: Step
    branches: tuple[str, ...]
    edits: tuple[WeightEdit, ...] = ()

    @property
    def frame_count(self) -> int:
        return self.query.shape[1]

    def editing_weights(self, edit: WeightEdit) -> "AttentionCall":
        """This call with `edit` applied to its softmax, which is then computed explicitly (in fp32)."""
        return replace(self, edits=(*self.edits, edit))


Proceed = Callable[[AttentionCall], Tensor]
Intervention = Callable[[AttentionCall, Proceed], Tensor]  # returns "branch frame head query channel"


@dataclass(frozen=True)
class FeatureCall:
    """The input of one decoder block, before the skip connections join it; `path` names the block ("up_blocks.1")."""

    feature: Float[Tensor, "branch frame channel height width"]
    path: str
    step: Step
    branches: tuple[str, ...]


FeatureHook = Callable[[FeatureCall], Tensor]  # returns what takes the place of `feature`


def attention_weights(
    query: Float[Tensor, "*axes query channel"], key: Float[Tensor, "*axes token channel"]
) -> Float[Tensor, "*axes query token"]:
    """softmax(query · keyᵀ / √channel) in fp32; each row sums to 1."""
    scores: Tensor = query.float() @ key.float().transpose(-1, -2)
    return scores.mul(query.shape[-1] ** -0.5).softmax(-1)


def attend(call: AttentionCall) -> Float[Tensor, "branch frame head query channel"]:
    """The attention itself: fused, unless somebody wants to edit its weights."""
    if call.edits:
        weights: Tensor = attention_weights(call.query, call.key)
        for edit in call.edits:
            weights = edit(weights)
        return (weights @ call.value.float()).to(call.value.dtype)
    return fused_attention(call.query, call.key, call.value)


def chained(interventions: Sequence[Intervention], innermost: Proceed = attend) -> Proceed:
    """All interventions around the attention, the first outermost."""
    proceed = innermost
    for intervention in reversed(interventions):
        proceed = _around(intervention, proceed)
    return proceed


def _around(intervention: Intervention, rest: Proceed) -> Proceed:
    return lambda call: intervention(call, rest)


@dataclass(frozen=True)
class Predicate:
    """A question about a call; combine with `&`, `|` and `~`."""

    holds: Callable[[AttentionCall], bool]

    def __call__(self, call: AttentionCall) -> bool:
        return self.holds(call)

    def __and__(self, other: "Predicate") -> "Predicate":
        return Predicate(lambda call: self(call) and other(call))

    def __or__(self, other: "Predicate") -> "Predicate":
        return Predicate(lambda call: self(call) or other(call))

    def __invert__(self) -> "Predicate":
        return Predicate(lambda call: not self(call))


is_self = Predicate(lambda call: call.site.is_self)
is_cross = Predicate(lambda call: call.site.is_cross)
in_encoder = Predicate(lambda call: call.site.in_encoder)
in_middle = Predicate(lambda call: call.site.in_middle)
in_decoder = Predicate(lambda call: call.site.in_decoder)


def under(path: str) -> Predicate:
    """At the site `path` or inside the block of that name, such as "up_blocks.1"."""
    return Predicate(lambda call: call.site.path == path or call.site.path.startswith(path + "."))


def before(progress: float) -> Predicate:
    """In the steps up to this share of the way."""
    return Predicate(lambda call: call.step.progress < progress)


def down_to(timestep: float) -> Predicate:
    """In the noisy steps, down to this timestep."""
    return Predicate(lambda call: call.step.timestep >= timestep)


def where(predicate: Predicate, intervention: Intervention) -> Intervention:
    """`intervention` where `predicate` holds, nothing elsewhere."""

    def act(call: AttentionCall, proceed: Proceed) -> Tensor:
        return intervention(call, proceed) if predicate(call) else proceed(call)

    return act


def in_steps(holds: Callable[[Step], bool], hook: FeatureHook) -> FeatureHook:
    """`hook` in the steps for which `holds` says so, nothing in others."""

    def act(call: FeatureCall) -> Tensor:
        return hook(call) if holds(call.step) else call.feature

    return act
