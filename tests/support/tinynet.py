"""The smallest network that runs, for tests of what goes on around an engine."""

from __future__ import annotations

import numpy as np

from nmc.ir import (
    Encoding,
    Fixed,
    FixedNeuron,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Stage,
)

STEPS = 2
X: IntArray = np.ones((1, STEPS, 3), np.int64)


def network() -> Network:
    """Three inputs, one to one onto three neurons."""
    lif = FixedNeuron(
        Fixed(np.array(1), 6, 17, signed=False),
        Fixed(np.array(4095), -12, 12, signed=False),
        Fixed(np.array(0), -12, 12, signed=False),
    )
    return Network(
        "tiny",
        Stage.QUANTIZED,
        (
            Population("in", (3,), InputNeuron(Encoding.SPIKES), level=0),
            Population("out", (3,), lif, level=1),
        ),
        (Projection("w", "in", "out", Identity(), Fixed(np.array(5), 0, 8, signed=False)),),
        ("out",),
        STEPS,
    )
