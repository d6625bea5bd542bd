"""Networks without shortcuts: VGG-16, LeNet, BinaryNet, and 7B-Net's plain twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import LEAKY_DRIVE, SCALED_DRIVE, Draft, if_neuron, leak_after_reset, lif_neuron

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of the convolutions; 0 is a max pool."""
BINARY_NET = (128, 128, 0, 256, 256, 0, 512, 512, 0)


def _features(draft: Draft, layers: Sequence[int], *, norm: bool = True) -> str:
    x = "input"
    for k, channels in enumerate(layers):
        if channels:
            x = draft.conv(f"features.{k}", x, channels, 3, norm=norm, bias=not norm)
            x = draft.fire(f"features.{k}.sn", x)
        elif min(draft.shapes[x][1:]) > 1:
            x = draft.max_pool(f"features.{k}.pool", x, 2, 2)
    return x


def vgg16_cifar(
    *, channels: int = 3, size: int = 32, width: float = 1.0, classes: int = 10, steps: int = 6, seed: int = 0
) -> OpGraph:
    """VGG-16 with batch norm, directly trained (R4). Its 14.79 M parameters allow for a hidden layer of 128
    units between the 512 features and the classes."""
    draft = Draft((channels, size, size), leak_after_reset(), seed, width, drive=LEAKY_DRIVE)
    x = draft.linear("fc1", _features(draft, VGG16), draft.channels(128))
    x = draft.linear("fc2", draft.fire("fc1.sn", x), classes)
    return draft.finish("vgg16_cifar", x, steps)


def vgg16_imagenet(
    *,
    size: int = 224,
    width: float = 1.0,
    classes: int = 1000,
    steps: int = 350,
    reset: og.ResetRule = og.ResetRule.SUBTRACT,
    seed: int = 0,
) -> OpGraph:
    """VGG-16 without batch norm, as converted from the ANN (Rueckauer et al. 2017)."""
    draft = Draft((3, size, size), if_neuron(reset), seed, width)
    x = _features(draft, VGG16, norm=False)
    for name in ("fc1", "fc2"):
        x = draft.fire(f"{name}.sn", draft.linear(name, x, draft.channels(4096)))
    return draft.finish("vgg16_imagenet", draft.linear("fc3", x, classes), steps)


def lenet(
    *,
    size: int = 28,
    width: float = 1.0,
    classes: int = 10,
    steps: int = 32,
    reset: og.ResetRule = og.ResetRule.SUBTRACT,
    seed: int = 0,
) -> OpGraph:
    """LeNet-5 with ReLU and max pools, as converted: 6 and 16 maps, 120 and 84 units (LeCun et al. 1998)."""
    draft = Draft((1, size, size), if_neuron(reset), seed, width)
    x = draft.fire("c1.sn", draft.conv("c1", "input", 6, 5, norm=False, bias=True))
    x = draft.max_pool("c1.pool", x, 2, 2)
    c3 = draft.channels(16)
    weight = draft.rng.normal(0, np.sqrt(2 / (25 * draft.shapes[x][0])), (c3, draft.shapes[x][0], 5, 5))
    x = draft.fire("c3.sn", draft.add("c3.conv", og.Conv2d(weight, np.zeros(c3)), x))
    x = draft.max_pool("c3.pool", x, 2, 2)
    for name, units in (("f5", 120), ("f6", 84)):
        x = draft.fire(f"{name}.sn", draft.linear(name, x, draft.channels(units)))
    return draft.finish("lenet", draft.linear("fc", x, classes), steps)


def binary_net(
    *, size: int = 32, width: float = 1.0, classes: int = 10, steps: int = 32, seed: int = 0
) -> OpGraph:
    """BinaryNet's CIFAR-10 network (Courbariaux et al. 2016): weights of -1 and 1 behind batch norms."""
    draft = Draft((3, size, size), if_neuron(), seed, width)
    x = _features(draft, BINARY_NET)
    for name in ("fc1", "fc2"):
        x = draft.norm(f"{name}.bn", draft.linear(name, x, draft.channels(1024)))
        x = draft.fire(f"{name}.sn", x)
    x = draft.linear("fc3", x, classes)
    for name, op in draft.nodes.items():
        if isinstance(op, og.Conv2d | og.Linear):
            # The batch norm behind it takes the weights' scale.
            scale = np.sqrt(np.mean(op.weight**2))
            signs = np.where(op.weight < 0, -scale, scale)
            bias = op.bias
            draft.nodes[name] = (
                og.Conv2d(signs, bias, op.stride, op.padding)
                if isinstance(op, og.Conv2d)
                else og.Linear(signs, bias)
            )
    return draft.finish("binary_net", x, steps)


def plain_seven_b(
    *, size: int = 128, width: float = 1.0, classes: int = 11, steps: int = 16, seed: int = 0
) -> OpGraph:
    """7B-Net without shortcuts: the plain net that it is compared with."""
    draft = Draft((2, size, size), lif_neuron(), seed, width, drive=SCALED_DRIVE)
    x = draft.conv_fire("stem", "input", 32, 3)
    for k in range(7):
        x = draft.conv_fire(f"block{k}.2", draft.conv_fire(f"block{k}.1", x, 32, 3), 32, 3)
        if min(draft.shapes[x][1:]) > 1:
            x = draft.max_pool(f"block{k}.pool", x, 2, 2)
    return draft.finish("plain_net", draft.linear("fc", x, classes), steps)
