"""Counts of the zoo's networks against sums that are written down here layer by layer, and published ones."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.__main__ import main
from nmc.frontend.zoo.draft import operations, parameters
from nmc.frontend.zoo.events import wide_seven_b
from nmc.frontend.zoo.ghost import ghostnet
from nmc.frontend.zoo.table import count


@dataclass
class Sheet:
    """Adds up layers: what a reader of the tables in the papers would."""

    parameters: int = 0
    operations: int = 0

    def conv(
        self,
        c_in: int,
        c_out: int,
        area: int,
        side: int | tuple[int, int],
        *,
        norm: bool = True,
        bias: bool = False,
    ) -> int:
        """A convolution of ``area`` taps on maps of ``side``; returns c_out."""
        pixels = side * side if isinstance(side, int) else side[0] * side[1]
        self.parameters += c_in * c_out * area + (2 * norm + bias) * c_out
        self.operations += c_in * c_out * area * pixels
        return c_out

    def linear(self, inputs: int, outputs: int) -> None:
        self.parameters += (inputs + 1) * outputs
        self.operations += inputs * outputs

    @property
    def counts(self) -> tuple[int, int]:
        return self.parameters, self.operations


def imagenet(blocks: tuple[int, ...], deep: bool) -> Sheet:
    sheet, side, growth = Sheet(), 56, 4 if deep else 1
    c = sheet.conv(3, 64, 49, 112)
    for stage, number in enumerate(blocks):
        inner = 64 << stage
        for block in range(number):
            before, side = side, side // 2 if stage and not block else side
            if deep:
                sheet.conv(c, inner, 1, before)
                sheet.conv(inner, inner, 9, side)
                sheet.conv(inner, 4 * inner, 1, side)
            else:
                sheet.conv(c, inner, 9, side)
                sheet.conv(inner, inner, 9, side)
            if c != inner * growth or side != before:
                sheet.conv(c, inner * growth, 1, side)
            c = inner * growth
    sheet.linear(c, 1000)
    return sheet


def cifar(number: int, channels: int = 3, side: int = 32) -> Sheet:
    sheet = Sheet()
    c = sheet.conv(channels, 16, 9, side)
    for stage in range(3):
        for block in range(number):
            side = -(-side // 2) if stage and not block else side
            if c != 16 << stage:
                sheet.conv(c, 16 << stage, 1, side)
            sheet.conv(c, 16 << stage, 9, side)
            c = sheet.conv(16 << stage, 16 << stage, 9, side)
    sheet.linear(64, 10)
    return sheet


def seven_b(widths: tuple[int, ...], classes: int) -> Sheet:
    sheet, c, side = Sheet(), 2, 128
    for width in widths:
        if c != width:
            c = sheet.conv(c, width, 9 if c == 2 else 1, side)
        sheet.conv(c, c, 9, side)
        sheet.conv(c, c, 9, side)
        side //= 2
    sheet.linear(c, classes)
    return sheet


def vgg(layers: str, classes: tuple[int, ...], side: int, *, norm: bool, channels: int = 3) -> Sheet:
    sheet, c = Sheet(), channels
    for stage in layers.split("|"):
        for width in stage.split():
            c = sheet.conv(c, int(width), 9, side, norm=norm, bias=not norm)
        side //= 2
    inputs = c * side * side
    for outputs in classes:
        sheet.linear(inputs, outputs)
        inputs = outputs
    return sheet


VGG16 = "64 64|128 128|256 256 256|512 512 512|512 512 512"


def lenet() -> Sheet:
    sheet = Sheet()
    sheet.conv(1, 6, 25, 28, norm=False, bias=True)
    sheet.conv(6, 16, 25, 10, norm=False, bias=True)
    for inputs, outputs in ((400, 120), (120, 84), (84, 10)):
        sheet.linear(inputs, outputs)
    return sheet


def inception() -> Sheet:
    """Szegedy et al. 2015; sides of the maps are 149, 147, 73, 71, 35, 17 and 8."""
    sheet = Sheet()
    stem = ((3, 32, 9, 149), (32, 32, 9, 147), (32, 64, 9, 147), (64, 80, 1, 73), (80, 192, 9, 71))
    for layer in stem:
        sheet.conv(*layer)

    def chain(c: int, side: int, *layers: tuple[int, int]) -> int:
        for width, area in layers:
            c = sheet.conv(c, width, area, side)
        return c

    c = 192
    for pooled in (32, 64, 64):
        branches = (((64, 1),), ((48, 1), (64, 25)), ((64, 1), (96, 9), (96, 9)), ((pooled, 1),))
        c = sum(chain(c, 35, *layers) for layers in branches)
    chain(c, 17, (384, 9))
    sheet.conv(chain(c, 35, (64, 1), (96, 9)), 96, 9, 17)
    c += 384 + 96
    for n in (128, 160, 160, 192):
        seven, double = ((n, 1), (n, 7), (192, 7)), ((n, 1), (n, 7), (n, 7), (n, 7), (192, 7))
        c = sum(chain(c, 17, *layers) for layers in (((192, 1),), seven, double, ((192, 1),)))
    sheet.conv(chain(c, 17, (192, 1)), 320, 9, 8)
    sheet.conv(chain(c, 17, (192, 1), (192, 7), (192, 7)), 192, 9, 8)
    c += 320 + 192
    for _ in range(2):
        forks = [chain(c, 8, (384, 1)), chain(c, 8, (448, 1), (384, 9))]
        c = chain(c, 8, (320, 1)) + chain(c, 8, (192, 1)) + sum(chain(f, 8, (384, 3)) for f in forks * 2)
    sheet.linear(c, 1000)
    return sheet


SHEETS = {
    **{
        f"sew-resnet-{depth}": imagenet(blocks, depth >= 50)
        for depth, blocks in ((18, (2, 2, 2, 2)), (34, (3, 4, 6, 3)), (50, (3, 4, 6, 3)))
    },
    "resnet-20": cifar(3),
    "resnet-110": cifar(18),
    "resnet-8": cifar(1, 1, 28),
    "sew-resnet-34-cifar": cifar(5),
    "ms-resnet-34-cifar": cifar(5),
    "sew-resnet-34-mnist": cifar(5, 1),
    "7b-net": seven_b((32,) * 7, 11),
    "plain-7b-net": seven_b((32,) * 7, 11),
    "wide-7b-net": seven_b((64,) * 4 + (128,) * 3, 10),
    "vgg16-cifar": vgg(VGG16, (128, 10), 32, norm=True),
    "vgg16-mnist": vgg(VGG16, (128, 10), 32, norm=True, channels=1),
    "lenet": lenet(),
    "inception-v3": inception(),
}


@pytest.mark.parametrize("name", SHEETS)
def test_counts_at_full_size(name):
    entry = NETWORKS[name]
    graph = entry.build()
    assert graph.shapes["input"] == entry.input_shape
    assert graph.steps == entry.steps
    assert (parameters(graph), operations(graph)) == SHEETS[name].counts


def test_vgg16_counts_on_small_images():
    """138 M random weights would take long to draw; 32 x 32 pixels leave one of 49 in front of the first
    linear layer."""
    graph = NETWORKS["vgg16"].build(size=32)
    assert (parameters(graph), operations(graph)) == vgg(VGG16, (4096, 4096, 1000), 32, norm=False).counts


@pytest.mark.parametrize("name", [name for name, entry in NETWORKS.items() if entry.parameters])
def test_published_counts(name):
    """Parameters to the last published digit (a unit in it for truncation); operations with R4's norms within
    1.3 %, without them below."""
    entry, found = NETWORKS[name], count(name)
    digits = 1e5 if entry.parameters >= 2e7 or name.startswith("ghostnet") else 1e4
    assert abs(found.parameters - entry.parameters) <= digits
    if entry.operations:
        assert found.operations < entry.operations
        assert abs(found.with_norms / entry.operations - 1) < 0.013
        assert entry.remark


def test_ghostnet_is_the_published_ann():
    """GhostNet 1.0x at 224 x 224 with 1,000 classes: 5.2 M weights and 141 M multiply-adds in its paper."""
    graph = ghostnet(size=224, classes=1000)
    assert round(parameters(graph) / 1e6, 1) == 5.2
    assert round(operations(graph) / 1e6) == 141


def test_attention_adds_its_own_layers():
    """DFC: a 1 x 1 convolution, five taps each way, three norms. MLP: c to 2 c and back, norms."""
    plain = parameters(ghostnet())
    inner = (72, 72, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960, 960, 960)
    before = (24, 24, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160, 160)
    after = (*before[1:], 160)
    dfc = sum(a * b + (5 + 5 + 3 * 2) * b for a, b in zip(before, inner, strict=True))
    mlp = sum(2 * c * 2 * c + (2 + 1) * 2 * c for c in after)
    assert parameters(ghostnet("dfc")) - plain == dfc
    assert parameters(ghostnet("mlp")) - plain == mlp


def test_the_printed_transition_of_wide_7b_net_is_larger_than_its_published_count():
    assert parameters(wide_seven_b(transition=3)) == parameters(wide_seven_b()) + 8 * 64 * 128


def test_the_command_prints_a_row_per_network(capsys):
    assert main(["lenet", "7b-net"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| network", "| lenet", "| 7b-net"]
    assert "0.13 M | 0.13 M" in rows[-1]


def test_the_command_refuses_unknown_names(capsys):
    assert main(["lenet5"]) == 2
    assert "lenet5" in capsys.readouterr().err
