"""SEW networks for event cameras and CIFAR-10: blocks with a max pool behind each (Fang et al. 2021)."""

from __future__ import annotations

from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import SCALED_DRIVE, Draft, if_neuron, lif_neuron
from nmc.frontend.zoo.residual import Join, block


def _pooled(draft: Draft, name: str, x: str) -> str:
    return draft.max_pool(f"{name}.pool", x, 2, 2) if min(draft.shapes[x][1:]) > 1 else x


def seven_b(
    join: Join = "add",
    *,
    size: int = 128,
    width: float = 1.0,
    classes: int = 11,
    steps: int = 16,
    seed: int = 0,
) -> OpGraph:
    """7B-Net for DVS Gesture: c32-BN-PLIF-{SEW(c32)-MP2} x 7-FC; PLIF with the tau it starts from.

    A map of one pixel is not pooled further, so that smaller inputs keep all seven blocks.
    """
    draft = Draft((2, size, size), lif_neuron(), seed, width, drive=SCALED_DRIVE)
    x = draft.conv_fire("stem", "input", 32, 3)
    for k in range(7):
        x = _pooled(draft, f"block{k}", block(draft, f"block{k}", x, 32, 1, join))
    return draft.finish("7b_net", draft.linear("fc", x, classes), steps)


def wide_seven_b(
    join: Join = "add",
    *,
    size: int = 128,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 16,
    transition: int = 1,
    seed: int = 0,
) -> OpGraph:
    """Wide-7B-Net for CIFAR10-DVS: 64 channels and four blocks, then 128 and three.

    transition: kernel of the convolution from 64 to 128 channels. The published 1.19 M parameters need 1;
    with 3, as the table of layers prints it, there are 1.26 M.
    """
    draft = Draft((2, size, size), lif_neuron(), seed, width, drive=SCALED_DRIVE)
    x = draft.conv_fire("stem", "input", 64, 3)
    for k in range(7):
        channels = 64 if k < 4 else 128
        if k == 4:
            x = draft.conv_fire("transition", x, channels, transition)
        x = _pooled(draft, f"block{k}", block(draft, f"block{k}", x, channels, 1, join))
    return draft.finish("wide_7b_net", draft.linear("fc", x, classes), steps)


def cifar_net(
    join: Join = "add",
    *,
    size: int = 32,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 4,
    seed: int = 0,
) -> OpGraph:
    """The CIFAR-10 net: c32-BN-IF-{{SEW(c32)} x 2-MP2} x 5-FC."""
    draft = Draft((3, size, size), if_neuron(), seed, width)
    x = draft.conv_fire("stem", "input", 32, 3)
    for k in range(5):
        for half in "ab":
            x = block(draft, f"block{k}{half}", x, 32, 1, join)
        x = _pooled(draft, f"block{k}", x)
    return draft.finish("cifar_net", draft.linear("fc", x, classes), steps)
