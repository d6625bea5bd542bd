"""Engine "lava-tiles": one group of Lava processes per core tile, so that the mapping itself is run.

Each tile gets its own neuron process and, per tile that feeds it, its own synapses, sliced from the layer's;
what a mapping leaves out or sends to the wrong place is then missing from the result. In process, as
"lava-inprocess". A population without tiles (no mapping) is one tile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.backends.base import Trace
from nmc.backends.loihi import quirks, readback
from nmc.backends.loihi.inprocess import in_process_models
from nmc.backends.loihi.lower import synapse_matrix
from nmc.backends.loihi.program import Neurons, Program, Synapses
from nmc.backends.loihi.run import LavaEngine
from nmc.ir import Dense, Fixed, IntArray, Network, Projection, Shape, frozen

Array = npt.NDArray[Any]
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Part:
    """One tile of a population. index: (*shape of the population): place in the tile, -1 elsewhere."""

    name: str
    ranges: Ranges
    index: IntArray

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(start, stop) for start, stop in self.ranges)

    @property
    def shape(self) -> Shape:
        return tuple(stop - start for start, stop in self.ranges)


def _part(name: str, shape: Shape, ranges: Ranges) -> Part:
    index = np.full(shape, -1, np.int64)
    part = Part(name, ranges, index)
    index[part.slices] = np.arange(int(np.prod(part.shape))).reshape(part.shape)
    return part


def parts_of(network: Network) -> dict[str, tuple[Part, ...]]:
    """The tiles of every population; inputs lie on the host and stay whole."""
    found = {}
    for population in network.populations:
        tiles = () if network.mapping is None else network.mapping.of(population.name)
        whole = tuple((0, size) for size in population.shape)
        found[population.name] = tuple(
            _part(f"{population.name}@{number}", population.shape, tile.ranges)
            for number, tile in enumerate(tiles)
        ) or (_part(population.name, population.shape, whole),)
    return found


def split(network: Network, program: Program) -> Program:
    """The program with one neuron process per tile, and synapses between tiles."""
    parts = parts_of(network)
    neurons = tuple(_slice(cell, part) for cell in program.neurons for part in parts[cell.name])
    synapses = tuple(
        synapse
        for projection in network.projections
        if not projection.on_host
        for synapse in _between(network, projection, parts)
    )
    order = tuple(part.name for name in program.order for part in parts[name])
    return replace(program, order=order, neurons=neurons, synapses=synapses)


def _slice(cell: Neurons, part: Part) -> Neurons:
    """The tile's neurons with their share of every field."""

    def mine(value: IntArray) -> IntArray:
        return frozen(value[part.slices]) if value.ndim else value

    names = ("du", "dv", "vth", "v0", "drop", "bias_mant")
    fields: dict[str, Any] = {name: mine(getattr(cell, name)) for name in names}
    host = None
    if cell.host_bias is not None:
        host = frozen(np.stack([biases[part.slices] for biases in cell.host_bias]))
    return replace(cell, name=part.name, shape=part.shape, host_bias=host, **fields)


def _between(network: Network, projection: Projection, parts: dict[str, tuple[Part, ...]]) -> list[Synapses]:
    """The projection's synapses from each source tile to each target tile, where there are any."""
    source, target = network[projection.source], network[projection.target]
    weight, exponent = quirks.representable(projection)
    assert isinstance(projection.weight, Fixed)
    if isinstance(projection.synapse, Dense):
        rows, columns = np.nonzero(weight)
        values = weight[rows, columns]
    else:
        rows, columns, values = synapse_matrix(projection.synapse, weight, source.shape, target.size)
    found = []
    for to in parts[target.name]:
        into = to.index.reshape(-1)[rows]
        for by in parts[source.name]:
            out_of = by.index.reshape(-1)[columns]
            kept = (into >= 0) & (out_of >= 0)
            if kept.any():
                found.append(
                    Synapses(
                        f"{projection.name}: {by.name} to {to.name}",
                        "DelaySparse" if projection.delay else "Sparse",
                        by.name,
                        to.name,
                        by.shape,
                        to.shape,
                        frozen(values[kept]),
                        quirks.sign_mode(projection.weight.signed),
                        quirks.message_bits(source),
                        quirks.checked_delay(projection.delay, projection.name),
                        frozen(into[kept]),
                        frozen(out_of[kept]),
                        weight_exp=exponent,
                    )
                )
    return found


class TiledLavaEngine:
    """Lava's process models, one group per core tile; see ``backends.base.Engine``.

    Args:
        runtime: Lava's runtime, which then runs the groups in processes of their own; by default they run in
            this process.
    """

    name = "lava-tiles"

    def __init__(self, runtime: LavaEngine | None = None) -> None:
        self._runtime = runtime

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``.

        Raises:
            NmcError: NMC-E01 when Lava is not there or cannot be imported into this process; with a runtime,
                those of ``LavaEngine.run``.
        """
        if self._runtime is None:
            models = in_process_models(self.name)

            def in_process(program: Program) -> readback.Recorded:
                kept = models(program).run()
                return lambda name, what: kept[name, what]

            return _trace(network, x, steps, record, in_process)
        runtime = self._runtime
        with tempfile.TemporaryDirectory(prefix="nmc-lava-") as folder:
            return _trace(network, x, steps, record, lambda program: runtime.session(program, folder))


def _trace(
    network: Network,
    x: IntArray,
    steps: int,
    record: Collection[str],
    run: Callable[[Program], readback.Recorded],
) -> Trace:
    """Run the split program and put the tiles' records together."""
    parts = parts_of(network)

    def whole(program: Program) -> readback.Recorded:
        of_tile = run(split(network, program))

        def recorded(name: str, what: str) -> Array:
            array = np.zeros((program.steps, *network[name].shape), np.int32)
            for part in parts[name]:
                np.moveaxis(array, 0, -1)[part.slices] = np.moveaxis(of_tile(part.name, what), 0, -1)
            return array

        return recorded

    return readback.trace(network, x, steps, record, whole)
