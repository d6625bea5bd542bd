"""Values that lie in several branches: what a concatenation joins, before it is joined.

Whatever works channel by channel (depthwise convolutions, pools, sums, gates) is applied to each branch
alone, which computes the same and costs no synapse; only layers that mix channels read the concatenation.
"""

from __future__ import annotations

from typing import TypeAlias

from nmc.frontend import opgraph as og
from nmc.frontend.zoo.draft import Draft

Branches: TypeAlias = tuple[str, ...]
"""Nodes whose channels follow each other."""


def joined(draft: Draft, xs: Branches) -> str:
    """The concatenation as one node; made once."""
    if len(xs) == 1:
        return xs[0]
    name = "+".join(xs)
    return name if name in draft.nodes else draft.add(name, og.Concat(), *xs)


def size(draft: Draft, xs: Branches) -> tuple[int, int, int]:
    """(C, H, W) of the concatenation."""
    channels = sum(draft.shapes[x][0] for x in xs)
    return (channels, draft.shapes[xs[0]][1], draft.shapes[xs[0]][2])
