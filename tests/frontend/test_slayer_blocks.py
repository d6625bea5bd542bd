"""SLAYER's own blocks, exported by lava-dl and read by nmc: the same spikes, layer by layer."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed")

from lava.lib.dl.slayer import block  # noqa: E402

from nmc.backends.sim.reference import ReferenceEngine  # noqa: E402
from nmc.frontend.slayer import load_net  # noqa: E402

STEPS = 40


def spread(part: torch.nn.Module, scale: float) -> None:
    """Weights and delays that keep every layer busy."""
    for module in part.modules():
        if type(module).__module__.endswith("synapse.layer"):
            module.weight.data = (torch.rand_like(module.weight) * 3 - 1.3) * scale
    delay = getattr(part, "delay", None)
    if delay is not None:
        delay.delay.data = torch.randint(0, 5, delay.delay.shape).float()


def forward(net: list[torch.nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    """Output of every block, from cleared states."""
    outputs = []
    for part in net:
        for module in part.modules():
            for name in ("current_state", "voltage_state", "spike_state"):
                if hasattr(module, name):
                    setattr(module, name, torch.zeros_like(getattr(module, name)))
        x = part(x)
        outputs.append(x)
    return outputs


def test_every_block_that_the_format_holds(tmp_path: Path) -> None:
    """Grouped convolution with delays, pool, convolution, flatten, dense with delays, recurrent, dense."""
    torch.manual_seed(0)
    cell = {"threshold": 0.5, "current_decay": 0.3, "voltage_decay": 0.1}
    cuba = block.cuba
    net = [
        cuba.Conv(cell, 2, 4, 3, padding=1, groups=2, delay=True),
        cuba.Pool(cell, 2),
        cuba.Conv(cell, 4, 4, (3, 2), stride=(2, 1)),
        cuba.Flatten(),
        cuba.Dense(cell, 12, 8, delay=True),
        cuba.Recurrent(cell, 8, 8),
        cuba.Dense(cell, 8, 6),
    ]
    x = (torch.rand(1, 2, 8, 8, STEPS) < 0.4).float()
    with torch.no_grad():
        for index, part in enumerate(net):
            spread(part, 0.6 if index < 5 else 1.0)
        forward(net, x)  # lava-dl knows shapes and makes states only in a first run
        expected = forward(net, x)
    path = tmp_path / "x.net"
    with h5py.File(path, "w") as file:
        for index, part in enumerate(net):
            part.export_hdf5(file.create_group(f"layer/{index}"))
    network = load_net(path, steps=STEPS)
    names = [population.name for population in network.compute]
    train = x.numpy()[0].transpose(3, 0, 1, 2)[None].astype(np.int64)
    trace = ReferenceEngine().run(network, train, STEPS, names)
    blocks = [output for part, output in zip(net, expected, strict=True) if part is not net[3]]
    for late, (name, output) in enumerate(zip(names, blocks, strict=True), start=1):
        # Every block of SLAYER is one step later than the one before it (delay_shift).
        found = trace.spikes[name][0, : STEPS - late]
        spikes = np.moveaxis(output.numpy()[0], -1, 0)[late:].reshape(found.shape)
        np.testing.assert_array_equal(found, spikes)
        assert 0.01 < spikes.mean() < 0.9, name
