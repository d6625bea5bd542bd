"""What is unequal between two traces; everything that a trace holds is compared, with no tolerance."""

from __future__ import annotations

import numpy as np

from nmc.backends.base import Trace


def differences(expected: Trace, got: Trace) -> list[str]:
    wrong = []
    if (expected.samples, expected.steps) != (got.samples, got.steps):
        wrong.append("samples or steps")
    if expected.output.dtype != got.output.dtype or not np.array_equal(expected.output, got.output):
        wrong.append("output")
    for kind in ("spikes", "u", "v"):
        a, b = getattr(expected, kind), getattr(got, kind)
        if a.keys() != b.keys():
            wrong.append(f"{kind}: other populations")
            continue
        for name in a:
            if a[name].dtype != b[name].dtype or a[name].shape != b[name].shape:
                wrong.append(f"{kind} of {name}: other type or shape")
            elif not np.array_equal(a[name], b[name]):
                wrong.append(f"{kind} of {name}: {int((a[name] != b[name]).sum())} of {a[name].size}")
    if expected.counts != got.counts:
        wrong.append(f"counts {expected.counts} != {got.counts}")
    return wrong
