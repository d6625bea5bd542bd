"""The reference networks by name, with random but reproducible weights, source and published numbers.

``NETWORKS["7b-net"].build(size=32, width=0.25)`` gives an op graph; ``draft.parameters`` and
``draft.operations`` count it. ``python -m nmc.frontend.zoo`` prints all counts beside the published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nmc.frontend.opgraph import OpGraph, ResetRule
from nmc.frontend.zoo import events, ghost, inception, plain, residual
from nmc.ir import Shape

HU = "Hu, Tang, Pan 2018, Spiking Deep Residual Network, arXiv 1805.01352"
FANG = "Fang et al. 2021, Deep Residual Learning in Spiking Neural Networks"
RUECKAUER = "Rueckauer et al. 2017, Frontiers in Neuroscience 11:682"
REPORT = "project report on directly trained VGG and ResNet for CIFAR-10 (LIF, T = 6)"


@dataclass(frozen=True)
class Entry:
    """One network at its published size.

    build: takes size, width, steps, classes and seed as keywords (converted networks also reset).
    narrow: keywords of a variant small enough for tests. parameters, operations: as published (per step),
    None where they are not. remark: why a count here differs. joules: as published, per inference.
    """

    build: Callable[..., OpGraph]
    input_shape: Shape
    steps: int
    neuron: str
    source: str
    narrow: dict[str, Any]
    parameters: float | None = None
    operations: float | None = None
    remark: str = ""
    joules: float | None = None


IF = "IF, threshold 1, hard reset, fires at >="
SOFT = "IF, threshold 1, reset by subtraction, fires at >="
PLIF = "PLIF at its starting tau of 2, threshold 1, hard reset, fires at >="
LIF = "LIF, leak 0.5 behind the reset (not published), threshold 1, hard reset, fires at >="
SMALL: dict[str, Any] = {"size": 32, "width": 0.0625}
TINY: dict[str, Any] = {"size": 16, "width": 0.25}
DVS: dict[str, Any] = {"size": 32, "width": 0.25, "steps": 4}
HARD = {"steps": 8, "reset": ResetRule.VALUE}
"""Loihi cores reset to zero; reset by subtraction costs them a synapse per neuron."""
STEPS_OF_REPORT = 6
COUNTED = (
    "the report does not say what it counts besides the weighted layers; our reading, two operations per"
    " normalized value in each of its 6 steps, comes to within 1.3 % of it"
)
CONVERTED_STEPS = "how many steps its figures took is not published per network; T is ours"
HALF_ATTENTION = f"attention at full, not half, resolution; {COUNTED}"
HIDDEN_MLP = f"the MLP's hidden size is ours, twice the channels; {COUNTED}"


def _imagenet() -> dict[str, Entry]:
    entries = {}
    for depth in residual.BLOCKS:
        for join in ("add", "and", "iand", "vanilla"):
            family = "spiking-resnet" if join == "vanilla" else "sew-resnet"
            name = f"{family}-{depth}" + ("" if join in ("add", "vanilla") else f"-{join}")
            published = 21.8e6 if (depth, join) == (34, "add") else None
            build = partial(residual.resnet, depth, join)
            small = {**SMALL, "classes": 10}
            entries[name] = Entry(build, (3, 224, 224), 4, IF, FANG, small, published)
    return entries


def _converted() -> dict[str, Entry]:
    entries = {}
    for depth in (20, 32, 44, 56, 110):
        build = partial(residual.cifar_resnet, depth)
        entries[f"resnet-{depth}"] = Entry(build, (3, 32, 32), 350, SOFT, HU, {**TINY, **HARD})
    large = partial(residual.resnet, 50, "vanilla", steps=350, reset=ResetRule.SUBTRACT)
    narrow = {**SMALL, "classes": 10, **HARD}
    entries["resnet-50"] = Entry(large, (3, 224, 224), 350, SOFT, HU, narrow)
    small = partial(residual.cifar_resnet, 8, channels=1, size=28)
    entries["resnet-8"] = Entry(small, (1, 28, 28), 350, SOFT, HU, {**TINY, **HARD})
    return entries


def _events() -> dict[str, Entry]:
    dvs, rgb = (2, 128, 128), (3, 32, 32)
    entries = {"plain-7b-net": Entry(plain.plain_seven_b, dvs, 16, PLIF, FANG, DVS)}
    for join in ("add", "and", "iand", "vanilla"):
        suffix = "" if join == "add" else f"-{join}"
        entries[f"7b-net{suffix}"] = Entry(
            partial(events.seven_b, join), dvs, 16, PLIF, FANG, DVS, 0.13e6 if join == "add" else None
        )
    wide_remark = "with a 1 x 1 transition; 1.26 M with the 3 x 3 one of the table of layers"
    wide = {**DVS, "width": 0.125}
    entries["wide-7b-net"] = Entry(events.wide_seven_b, dvs, 16, PLIF, FANG, wide, 1.19e6, remark=wide_remark)
    entries["cifar-net"] = Entry(events.cifar_net, rgb, 4, IF, FANG, TINY)
    return entries


def _trained() -> dict[str, Entry]:
    rgb, gray = (3, 32, 32), {"channels": 1}
    tiny = {**TINY, "steps": 4}
    sew, ms = partial(residual.directly_trained, "add"), partial(residual.directly_trained, "ms")
    entries = {
        "sew-resnet-34-cifar": Entry(sew, rgb, 6, LIF, REPORT, tiny, 0.47e6, 72.5e6, COUNTED, 14.80e-6),
        "ms-resnet-34-cifar": Entry(ms, rgb, 6, LIF, REPORT, tiny, 0.47e6, 72.5e6, COUNTED, 8.30e-6),
        "vgg16-cifar": Entry(
            plain.vgg16_cifar, rgb, 6, LIF, REPORT, SMALL, 14.79e6, 317.0e6, COUNTED, 64.70e-6
        ),
    }
    for name, build, energy in (("sew-resnet-34", sew, 14.97e-6), ("ms-resnet-34", ms, 8.61e-6)):
        entries[f"{name}-mnist"] = Entry(
            partial(build, **gray), (1, 32, 32), 6, LIF, REPORT, tiny, 0.46e6, 72.2e6, COUNTED, energy
        )
    ghosts: dict[ghost.Attention, tuple[float, float, str, float]] = {
        "": (3.9e6, 6.4e6, COUNTED, 1.04e-6),
        "dfc": (4.9e6, 9.7e6, HALF_ATTENTION, 1.53e-6),
        "mlp": (4.7e6, 7.1e6, HIDDEN_MLP, 0.96e-6),
    }
    for attention, published in ghosts.items():
        build = partial(ghost.ghostnet, attention)
        name = f"ghostnet-{attention}" if attention else "ghostnet"
        few = {**TINY, "size": 32, "steps": 4, "blocks": 4}
        entries[name] = Entry(build, rgb, 6, LIF, REPORT, few, *published)
    vgg = partial(plain.vgg16_cifar, **gray)
    entries["vgg16-mnist"] = Entry(
        vgg, (1, 32, 32), 6, LIF, REPORT, SMALL, 14.79e6, 315.8e6, COUNTED, 64.63e-6
    )
    return entries


NETWORKS: dict[str, Entry] = {
    **_imagenet(),
    **_converted(),
    **_events(),
    **_trained(),
    "vgg16": Entry(
        plain.vgg16_imagenet, (3, 224, 224), 350, SOFT, RUECKAUER, {**SMALL, "classes": 10, **HARD}
    ),
    "inception-v3": Entry(
        inception.inception_v3,
        (3, 299, 299),
        350,
        SOFT,
        RUECKAUER,
        {**SMALL, "size": 75, "classes": 10, **HARD},
        remark=CONVERTED_STEPS,
    ),
    "lenet": Entry(plain.lenet, (1, 28, 28), 32, SOFT, RUECKAUER, HARD),
    "binary-net": Entry(
        plain.binary_net, (3, 32, 32), 32, IF, RUECKAUER, {"size": 16, "width": 0.0625, "steps": 8}
    ),
}
