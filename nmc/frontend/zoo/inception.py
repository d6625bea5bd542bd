"""Inception-v3 without its auxiliary classifier (Szegedy et al. 2015, arXiv 1512.00567), as converted by
Rueckauer et al. 2017: branches joined by concatenation, convolutions of 1 x 7 and 7 x 1, neurons behind all.

Branches stay apart until a convolution reads them (``branches``). The average pool of a pool branch stands
behind that branch's 1 x 1 convolution: the two commute, and there are fewer maps to pool.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.branches import Branches, joined
from nmc.frontend.zoo.draft import Draft, if_neuron

LINE, COLUMN = (1, 7), (7, 1)
SHORT_LINE, SHORT_COLUMN = (1, 3), (3, 1)


@dataclass(frozen=True)
class _Inception:
    """One network in the making."""

    draft: Draft

    def conv(
        self,
        name: str,
        xs: Branches,
        channels: int,
        kernel: int | og.Pair = 1,
        stride: int = 1,
        *,
        same: bool = True,
    ) -> Branches:
        x = self.draft.conv(name, joined(self.draft, xs), channels, kernel, stride, same=same)
        return (self.draft.fire(f"{name}.sn", x),)

    def chain(self, name: str, xs: Branches, *layers: tuple[int, int | og.Pair]) -> Branches:
        """Convolutions after each other: (channels, kernel)."""
        for index, (channels, kernel) in enumerate(layers):
            xs = self.conv(f"{name}.{index}", xs, channels, kernel)
        return xs

    def pool_branch(self, name: str, xs: Branches, channels: int) -> Branches:
        """1 x 1 convolution and mean over 3 x 3, batch norm, neuron."""
        draft = self.draft
        x = draft.conv(name, joined(draft, xs), channels, 1, norm=False)
        x = draft.add(f"{name}.pool", og.AvgPool((3, 3), (1, 1), (1, 1)), x)
        return (draft.fire(f"{name}.sn", draft.norm(f"{name}.bn", x)),)

    def shrunk(self, name: str, xs: Branches) -> Branches:
        """Max pool 3 x 3 with stride 2 of every branch."""
        return tuple(self.draft.max_pool(f"{name}.{k}", x, 3, 2) for k, x in enumerate(xs))

    def squares(self, name: str, xs: Branches, pooled: int) -> Branches:
        """Block A: 1 x 1, 5 x 5, twice 3 x 3, pool."""
        return (
            *self.conv(f"{name}.one", xs, 64),
            *self.chain(f"{name}.five", xs, (48, 1), (64, 5)),
            *self.chain(f"{name}.double", xs, (64, 1), (96, 3), (96, 3)),
            *self.pool_branch(f"{name}.pool", xs, pooled),
        )

    def first_reduction(self, name: str, xs: Branches) -> Branches:
        """Block B: half the map."""
        double = self.chain(f"{name}.double", xs, (64, 1), (96, 3))
        return (
            *self.conv(f"{name}.three", xs, 384, 3, 2, same=False),
            *self.conv(f"{name}.double.2", double, 96, 3, 2, same=False),
            *self.shrunk(f"{name}.pool", xs),
        )

    def lines(self, name: str, xs: Branches, inner: int) -> Branches:
        """Block C: lines and columns of seven."""
        double = ((inner, 1), (inner, COLUMN), (inner, LINE), (inner, COLUMN), (192, LINE))
        return (
            *self.conv(f"{name}.one", xs, 192),
            *self.chain(f"{name}.seven", xs, (inner, 1), (inner, LINE), (192, COLUMN)),
            *self.chain(f"{name}.double", xs, *double),
            *self.pool_branch(f"{name}.pool", xs, 192),
        )

    def second_reduction(self, name: str, xs: Branches) -> Branches:
        """Block D: half the map again."""
        seven = self.chain(f"{name}.seven", xs, (192, 1), (192, LINE), (192, COLUMN))
        return (
            *self.conv(f"{name}.three.1", self.conv(f"{name}.three.0", xs, 192), 320, 3, 2, same=False),
            *self.conv(f"{name}.seven.3", seven, 192, 3, 2, same=False),
            *self.shrunk(f"{name}.pool", xs),
        )

    def wide(self, name: str, xs: Branches) -> Branches:
        """Block E: branches that fork once more."""
        three = self.conv(f"{name}.three", xs, 384)
        double = self.chain(f"{name}.double", xs, (448, 1), (384, 3))
        return (
            *self.conv(f"{name}.one", xs, 320),
            *self.conv(f"{name}.three.line", three, 384, SHORT_LINE),
            *self.conv(f"{name}.three.column", three, 384, SHORT_COLUMN),
            *self.conv(f"{name}.double.line", double, 384, SHORT_LINE),
            *self.conv(f"{name}.double.column", double, 384, SHORT_COLUMN),
            *self.pool_branch(f"{name}.pool", xs, 192),
        )

    def classifier(self, xs: Branches, classes: int) -> str:
        """Means of the maps, then a linear layer: one matrix per branch, their results added."""
        draft = self.draft
        parts = [
            draft.linear(f"fc.{k}", draft.average(f"mean.{k}", x), classes, bias=not k)
            for k, x in enumerate(xs)
        ]
        return draft.add("fc", og.Add(), *parts)


def inception_v3(
    *,
    size: int = 299,
    width: float = 1.0,
    classes: int = 1000,
    steps: int = 350,
    reset: og.ResetRule = og.ResetRule.SUBTRACT,
    seed: int = 0,
) -> OpGraph:
    """Inception-v3 with IF neurons. size: of the square RGB input, at least 75."""
    draft = Draft((3, size, size), if_neuron(reset), seed, width)
    make = _Inception(draft)
    xs = make.conv("stem.0", ("input",), 32, 3, 2, same=False)
    xs = make.conv("stem.1", xs, 32, 3, same=False)
    xs = make.shrunk("stem.pool0", make.conv("stem.2", xs, 64, 3))
    xs = make.conv("stem.4", make.conv("stem.3", xs, 80), 192, 3, same=False)
    xs = make.shrunk("stem.pool1", xs)
    for k, pooled in enumerate((32, 64, 64)):
        xs = make.squares(f"a{k}", xs, pooled)
    xs = make.first_reduction("b", xs)
    for k, inner in enumerate((128, 160, 160, 192)):
        xs = make.lines(f"c{k}", xs, inner)
    xs = make.second_reduction("d", xs)
    for k in range(2):
        xs = make.wide(f"e{k}", xs)
    return draft.finish("inception_v3", make.classifier(xs, classes), steps)
