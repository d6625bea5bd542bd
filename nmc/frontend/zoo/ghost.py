"""Spiking GhostNet and its two variants with attention (R4): the layers of GhostNet 1.0x (Han et al. 2020,
arXiv 1911.11907, table 7) with a neuron behind every batch norm.

A ghost module makes half of its maps by a light convolution and the other half by a depthwise convolution of
those. The halves stay apart (``branches``): depthwise convolutions, gates and the residual sum act on each.

Attention multiplies. Behind a neuron of its own it is a binary gate, spikes AND spikes, which every chip can
do; without that neuron (``binary=False``, as the formula is published) it is a product of spikes and values,
which no chip here has, and the compiler refuses it by name. Where the originals repeat attention maps on more
pixels (DFC is computed at half the resolution), it is computed at full resolution: no synapse repeats pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.branches import Branches, joined, size
from nmc.frontend.zoo.draft import LEAKY_DRIVE, Draft, leak_after_reset

Attention: TypeAlias = Literal["", "dfc", "mlp"]

LAYERS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)
"""Bottlenecks: kernel, channels between the ghost modules, channels out, squeeze-and-excitation, stride."""
ATTENTION_FROM = 2
"""GhostNetV2 leaves the first two bottlenecks without DFC (Tang et al. 2022, arXiv 2211.12905)."""
STEM, LAST, HEAD = 16, 960, 1280
SQUEEZE = 4
MLP_GROWTH = 2
"""Hidden over outer size of the channel MLP; not published, 2 gives the published number of parameters."""

LIFT = 0.5
"""What random biases in front of gates are raised by: about half of the gates are open."""


@dataclass(frozen=True)
class _Ghost:
    """One network in the making. attention: of every bottleneck; binary: whether it is a gate of spikes."""

    draft: Draft
    attention: Attention
    binary: bool

    def module(self, name: str, xs: Branches, channels: int) -> Branches:
        """Ghost module: 1 x 1 convolution, then a depthwise 3 x 3 one of its result."""
        draft = self.draft
        light = draft.conv_fire(f"{name}.primary", joined(draft, xs), channels // 2, 1)
        return light, draft.fire(f"{name}.cheap.sn", draft.depthwise(f"{name}.cheap", light, 3))

    def depthwise(self, name: str, xs: Branches, kernel: int | og.Pair, stride: int = 1) -> Branches:
        named = [(f"{name}.{half}", x) for half, x in zip("ab", xs, strict=True)]
        return tuple(
            self.draft.fire(f"{half}.sn", self.draft.depthwise(half, x, kernel, stride)) for half, x in named
        )

    def halves(self, name: str, x: str, channels: int, *, norm: bool = True, lift: float = 0.0) -> Branches:
        """A 1 x 1 convolution of one node as two of half the channels each."""
        return tuple(
            self.draft.conv(f"{name}.{half}", x, channels // 2, 1, norm=norm, bias=not norm, lift=lift)
            for half in "ab"
        )

    def gated(self, name: str, xs: Branches, attention: Branches) -> Branches:
        """xs times attention, half by half; attention of one pixel holds for the whole map."""
        draft, result = self.draft, []
        for half, x, values in zip("ab", xs, attention, strict=True):
            gate = draft.fire(f"{name}.{half}.sn", values) if self.binary else values
            gate = draft.spread(f"{name}.{half}.spread", gate, x)
            result.append(draft.add(f"{name}.{half}.mul", og.Mul(), x, gate))
        return tuple(result)

    def mean(self, name: str, xs: Branches) -> str:
        """Mean over the map of all channels, as one node."""
        parts = tuple(self.draft.average(f"{name}.{half}.mean", x) for half, x in zip("ab", xs, strict=True))
        return joined(self.draft, parts)

    def excited(self, name: str, xs: Branches, channels: int) -> Branches:
        """Squeeze-and-excitation: means, a quarter of the channels, all channels, product."""
        reduced = -(-channels // SQUEEZE // 4) * 4
        draft, mean = self.draft, self.mean(name, xs)
        squeezed = draft.conv(f"{name}.reduce", mean, reduced, 1, norm=False, bias=True, lift=LIFT)
        hidden = draft.fire(f"{name}.reduce.sn", squeezed)
        return self.gated(name, xs, self.halves(f"{name}.expand", hidden, channels, norm=False, lift=LIFT))

    def fully_connected(self, name: str, xs: Branches, inputs: Branches, channels: int) -> Branches:
        """DFC attention of ``inputs`` on xs: 1 x 1, then lines and columns of five taps."""
        draft, result = self.draft, []
        for half, x in zip("ab", self.halves(name, joined(draft, inputs), channels), strict=True):
            x = draft.fire(f"{name}.{half}.0.sn", x)
            x = draft.fire(f"{name}.{half}.1.sn", draft.depthwise(f"{name}.{half}.1", x, (1, 5)))
            result.append(draft.depthwise(f"{name}.{half}.2", x, (5, 1), lift=LIFT))
        return self.gated(name, xs, tuple(result))

    def channel_mlp(self, name: str, xs: Branches, channels: int) -> Branches:
        """Means, a linear layer, a neuron, a linear layer, product."""
        hidden = self.draft.conv_fire(f"{name}.0", self.mean(name, xs), MLP_GROWTH * channels, 1)
        return self.gated(name, xs, self.halves(f"{name}.1", hidden, channels, lift=LIFT))

    def bottleneck(self, index: int, xs: Branches) -> Branches:
        kernel, inner, outer, excite, stride = LAYERS[index]
        name, draft = f"blocks.{index}", self.draft
        before = size(draft, xs)
        attends = index >= ATTENTION_FROM
        h = self.module(f"{name}.ghost1", xs, inner)
        if self.attention == "dfc" and attends:
            h = self.fully_connected(f"{name}.dfc", h, xs, inner)
        if stride > 1:
            h = self.depthwise(f"{name}.dw", h, kernel, stride)
        if excite:
            h = self.excited(f"{name}.se", h, inner)
        h = self.module(f"{name}.ghost2", h, outer)
        if self.attention == "mlp" and attends:
            h = self.channel_mlp(f"{name}.mlp", h, outer)
        if stride > 1 or before != size(draft, h):
            s = joined(draft, self.depthwise(f"{name}.down.dw", xs, kernel, stride))
            halves = zip("ab", self.halves(f"{name}.down", s, outer), strict=True)
            xs = tuple(draft.fire(f"{name}.down.{half}.sn", x) for half, x in halves)
        pairs = enumerate(zip(h, xs, strict=True))
        return tuple(draft.add(f"{name}.add.{'ab'[k]}", og.Add(), a, s) for k, (a, s) in pairs)


def ghostnet(
    attention: Attention = "",
    *,
    size: int = 32,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 6,
    blocks: int = len(LAYERS),
    binary: bool = True,
    seed: int = 0,
) -> OpGraph:
    """Spiking GhostNet for CIFAR-10; LIF with the leak after the reset, blocks joined by SEW ADD.

    attention: "" (squeeze-and-excitation where GhostNet has it), "dfc" or "mlp" in addition, from the third
    bottleneck on. blocks: how many of the 16 bottlenecks are built. binary: whether attention is spikes.
    """
    draft = Draft((3, size, size), leak_after_reset(), seed, width, drive=LEAKY_DRIVE)
    ghost = _Ghost(draft, attention, binary)
    xs: Branches = tuple(draft.conv_fire(f"stem.{half}", "input", STEM // 2, 3, 2) for half in "ab")
    for index in range(blocks):
        xs = ghost.bottleneck(index, xs)
    x = draft.conv_fire("last", joined(draft, xs), LAST, 1)
    x = draft.conv("head", draft.average("avgpool", x), HEAD, 1, norm=False, bias=True)
    x = draft.linear("fc", draft.fire("head.sn", x), classes)
    return draft.finish(f"ghostnet{'_' if attention else ''}{attention}", x, steps)
