"""Golden samples: a few inputs and all that they cause, by which any machine and any later nmc is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.backends import encode
from nmc.backends.base import Counts, Engine
from nmc.backends.engines import engine as engine_by_name
from nmc.errors import NmcError
from nmc.ir import Encoding, Network
from nmc.reports.document import Document, table_of

SAMPLES = 4
MAX_SPIKES_BYTES = 4 << 20

Arrays = Mapping[str, npt.NDArray[Any]]
"""``x``, the encoded input; ``output`` (N, classes); ``spikes/<population>`` (N, T, *shape) where small."""


def record(
    network: Network, data: npt.NDArray[Any] | None, seed: int
) -> tuple[dict[str, npt.NDArray[Any]], Counts]:
    """The first samples of ``data`` (random ones without) with what the reference engine makes of them."""
    x = random_input(network, 1, seed) if data is None else encode.encode(network, data[:SAMPLES])
    size = sum(p.size for p in network.compute) * network.steps * len(x)
    names = [p.name for p in network.compute] if size <= MAX_SPIKES_BYTES else []
    trace = engine_by_name("reference").run(network, x, network.steps, names)
    spikes = {f"spikes/{name}": array for name, array in trace.spikes.items()}
    return {"x": x.astype(np.int32), "output": trace.output, **spikes}, trace.counts


def inputs(golden: Arrays, network: Network) -> npt.NDArray[np.int64]:
    """The encoded samples, (N, ...) int64; a random one where the bundle was made without.

    Raises:
        NmcError: NMC-F06 when they are no input of the network: nmc did not write them.
    """
    (population,) = network.inputs
    train = getattr(population.neuron, "encoding", None) is Encoding.SPIKES
    shape = ((network.steps,) if train else ()) + population.shape
    x = golden.get("x")
    if x is None:
        return random_input(network, 1, 0)
    if x.dtype.kind not in "iu" or x.shape[1:] != shape:
        problem = f"golden samples are {x.dtype} of shape {x.shape[1:]}, expected integers of shape {shape}"
        raise NmcError("NMC-F06", population.label, problem, "compile the model again")
    return x.astype(np.int64)


def random_input(network: Network, samples: int, seed: int) -> npt.NDArray[np.int64]:
    """Encoded samples, uniform over what the input takes."""
    (population,) = network.inputs
    neuron = population.neuron
    train = getattr(neuron, "encoding", None) is Encoding.SPIKES
    shape = (samples, *((network.steps,) if train else ()), *population.shape)
    rng = np.random.default_rng(seed)
    return rng.integers(getattr(neuron, "lowest", 0), getattr(neuron, "highest", 1) + 1, shape)


@dataclass(frozen=True)
class Replay:
    """The golden samples once more. unequal: per layer, spikes (of the output: values) that differ.

    compared: values compared in all. first: the earliest difference in words, "" where there is none.
    """

    engine: str
    samples: int
    steps: int
    compared: int
    unequal: dict[str, int]
    first: str

    @property
    def passed(self) -> bool:
        return not self.first

    def document(self) -> Document:
        """For any renderer; schema ``nmc.replay/1``."""
        rows = [(layer, f"{count:,}") for layer, count in self.unequal.items()]
        facts = [
            ("engine", self.engine),
            ("samples", f"{self.samples:,} x {self.steps} steps, {self.compared:,} values compared"),
            ("verdict", "equal" if self.passed else "different"),
        ]
        if self.first:
            facts.append(("first divergence", self.first))
        members = {**asdict(self), "passed": self.passed}
        return Document("replay", members, (table_of("", ("layer", "unequal"), rows),), tuple(facts))


def replay(golden: Arrays, network: Network, engine: Engine) -> Replay:
    """Run golden samples through a network, which may be a later build than the one that recorded them.

    Raises:
        NmcError: NMC-D02 when the network takes other inputs or has no such layers.
    """
    if not {"x", "output"} <= set(golden):
        raise NmcError("NMC-D02", network.name, "has no golden samples", "compile the model again")
    x = golden["x"].astype(np.int64)
    stored = {
        name.removeprefix("spikes/"): array for name, array in golden.items() if name.startswith("spikes/")
    }
    steps = next((array.shape[1] for array in stored.values() if array.ndim > 1), network.steps)
    _check_shapes(x, stored, network, steps)
    trace = engine.run(network, x, steps, tuple(stored))
    if golden["output"].shape != trace.output.shape:
        problem = f"golden output of shape {golden['output'].shape}, the network gives {trace.output.shape}"
        raise NmcError("NMC-D02", network.name, problem, "record it again")
    unequal: dict[str, int] = {}
    compared = 0
    earliest: tuple[int, str] | None = None
    for name, expected in stored.items():
        population, found = network[name], trace.spikes[name]
        differs = found != expected
        compared += expected.size
        unequal[population.label] = int(differs.sum())
        if differs.any():
            index = tuple(int(i) for i in np.unravel_index(int(differs.argmax()), differs.shape))
            when = index[0] * steps + index[1] + population.time
            if earliest is None or when < earliest[0]:
                where = f"sample {index[0]}, step {index[1]}, neuron ({', '.join(map(str, index[2:]))})"
                words = f"{where}: spike expected {expected[index]}, got {found[index]}"
                earliest = (when, f"{population.label}: {words}")
    outputs = trace.output != golden["output"]
    compared += outputs.size
    unequal["output"] = int(outputs.sum())
    if earliest is None and outputs.any():
        sample, place = (int(i[0]) for i in np.nonzero(outputs))
        wanted, got = golden["output"][sample, place], trace.output[sample, place]
        earliest = (0, f"output: sample {sample}, value {place}: expected {wanted}, got {got}")
    return Replay(engine.name, len(x), steps, compared, unequal, "" if earliest is None else earliest[1])


def _check_shapes(x: npt.NDArray[Any], stored: Arrays, network: Network, steps: int) -> None:
    (population,) = network.inputs
    train = getattr(population.neuron, "encoding", None) is Encoding.SPIKES
    if x.shape[1:] != ((steps,) if train else ()) + population.shape:
        raise NmcError(
            "NMC-D02", population.label, f"golden samples of shape {x.shape[1:]}", "record them again"
        )
    for name, array in stored.items():
        if name not in network or array.shape != (len(x), steps, *network[name].shape):
            shape = network[name].shape if name in network else "none"
            problem = f"golden spikes of shape {array.shape[2:]}, the network has {shape}"
            raise NmcError("NMC-D02", name, problem, "record them again")
