"""Residual networks: SEW and spiking ResNets at ImageNet size, their CIFAR kin, membrane shortcuts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import Draft, if_neuron, leak_after_reset

Join: TypeAlias = Literal["add", "and", "iand", "vanilla", "ms"]
"""How a block ends: SEW with A + S, A S or (1 - A) S; SN(F + S); or the membrane shortcut F + U."""

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4
BOTTLENECK_FROM = 50


def joined(draft: Draft, name: str, a: str, s: str, join: Join) -> str:
    """Block output of a branch's spikes ``a`` and a shortcut's spikes ``s``."""
    if join == "add":
        return draft.add(f"{name}.add", og.Add(), a, s)
    if join == "iand":
        size = draft.shapes[a][0]
        minus, one = np.full(size, -1.0), np.ones(size)
        a = draft.add(f"{name}.not", og.BatchNorm(np.zeros(size), one, minus, one, 0.0), a)
    return draft.add(f"{name}.mul", og.Mul(), a, s)


def block(draft: Draft, name: str, x: str, channels: int, stride: int, join: Join, deep: bool = False) -> str:
    """One block; ``deep``: 1 x 1, 3 x 3, 1 x 1 with four times the channels at the end."""
    out = channels * EXPANSION if deep else channels
    if deep:
        h = draft.conv_fire(f"{name}.1", x, channels, 1)
        h = draft.conv_fire(f"{name}.2", h, channels, 3, stride)
        h = draft.conv(f"{name}.3", h, out, 1)
    else:
        h = draft.conv_fire(f"{name}.1", x, channels, 3, stride)
        h = draft.conv(f"{name}.2", h, out, 3)
    changes = stride != 1 or draft.shapes[x][0] != draft.channels(out)
    s = draft.conv(f"{name}.down", x, out, 1, stride) if changes else x
    if join == "vanilla":
        return draft.fire(f"{name}.sn", draft.add(f"{name}.add", og.Add(), h, s))
    if changes:
        s = draft.fire(f"{name}.down.sn", s)
    return joined(draft, name, draft.fire(f"{name}.sn", h), s, join)


def membrane_block(draft: Draft, name: str, u: str, channels: int, stride: int) -> str:
    """U + F(SN(F(SN(U)))): the stream is a current."""
    s = draft.fire(f"{name}.1.sn", u)
    h = draft.conv(f"{name}.1", s, channels, 3, stride)
    h = draft.conv(f"{name}.2", draft.fire(f"{name}.2.sn", h), channels, 3)
    if stride != 1 or draft.shapes[u][0] != draft.channels(channels):
        u = draft.conv(f"{name}.down", u, channels, 1, stride)
    return draft.add(f"{name}.add", og.Add(), h, u)


def resnet(
    depth: int = 18,
    join: Join = "add",
    *,
    size: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    steps: int = 4,
    reset: og.ResetRule = og.ResetRule.VALUE,
    seed: int = 0,
) -> OpGraph:
    """SEW ResNet ("add", "and", "iand") or spiking ResNet ("vanilla"): Fang et al. 2021, IF, T = 4. Reset by
    subtraction and T = 350 make the vanilla one what Hu et al. 2018 convert.

    depth: 18, 34, 50, 101 or 152. size: of the square RGB input. width: multiplies all channels.
    """
    # A product of spikes thins them out.
    draft = Draft((3, size, size), if_neuron(reset), seed, width, drive=3.0 if join == "and" else 1.25)
    x = draft.conv_fire("stem", "input", 64, 7, 2)
    x = draft.max_pool("stem.pool", x, 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS[depth]):
        for k in range(blocks):
            stride = 2 if stage and not k else 1
            x = block(draft, f"layer{stage + 1}.{k}", x, 64 << stage, stride, join, depth >= BOTTLENECK_FROM)
    x = draft.linear("fc", draft.average("avgpool", x), classes)
    return draft.finish(f"{'spiking' if join == 'vanilla' else 'sew'}_resnet{depth}_{join}", x, steps)


def cifar_resnet(
    depth: int = 20,
    join: Join = "vanilla",
    *,
    channels: int = 3,
    size: int = 32,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 350,
    reset: og.ResetRule = og.ResetRule.SUBTRACT,
    seed: int = 0,
) -> OpGraph:
    """ResNet of 6 n + 2 layers, 16-32-64 channels: converted ones (Hu et al. 2018) are "vanilla" with IF
    neurons reset by subtraction; ``directly_trained`` has those of R4."""
    return _cifar(depth, join, if_neuron(reset), (channels, size, size), width, classes, steps, seed)


def directly_trained(
    join: Join = "add",
    *,
    channels: int = 3,
    size: int = 32,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 6,
    seed: int = 0,
) -> OpGraph:
    """SEW-ResNet-34 ("add") and MS-ResNet-34 ("ms") at CIFAR width: 16-32-64 channels, five blocks each,
    which are 32 weighted layers and the two projection shortcuts. LIF with the leak after the reset; its
    report does not state the leak, 0.5 stands in."""
    return _cifar(32, join, leak_after_reset(), (channels, size, size), width, classes, steps, seed)


def _cifar(
    depth: int,
    join: Join,
    neuron: og.Neuron,
    shape: tuple[int, int, int],
    width: float,
    classes: int,
    steps: int,
    seed: int,
) -> OpGraph:
    draft = Draft(shape, neuron, seed, width, drive=1.5)
    x = draft.conv("stem", "input", 16, 3)
    if join != "ms":
        x = draft.fire("stem.sn", x)
    for stage in range(3):
        for k in range((depth - 2) // 6):
            stride = 2 if stage and not k else 1
            name = f"layer{stage + 1}.{k}"
            if join == "ms":
                x = membrane_block(draft, name, x, 16 << stage, stride)
            else:
                x = block(draft, name, x, 16 << stage, stride, join)
    if join == "ms":
        x = draft.fire("last.sn", x)
    x = draft.linear("fc", draft.average("avgpool", x), classes)
    return draft.finish(f"resnet{depth}_{join}", x, steps)
