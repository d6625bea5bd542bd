"""The fast engine: C++ kernels (``native/``) behind a plain C ABI, bit-identical with the reference."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nmc import synapse
from nmc.backends import encode, memory
from nmc.backends.base import Counts, Int32Array, Trace
from nmc.backends.sim import native_abi as abi
from nmc.backends.sim import native_plan
from nmc.backends.sim.counts import weight_shape
from nmc.errors import InternalError, NmcError
from nmc.ir import Encoding, FixedNeuron, InputNeuron, IntArray, Network, Projection

GROUP_BYTES = 64 << 20
"""Images run together while their maps stay below this; larger groups share weight loads on small maps."""
GROUP_IMAGES = 16
STEPS_LIMIT = (1 << 31) - 1


class NativeEngine:
    """Runs networks on the CPU.

    Args:
        threads: how many; None for every CPU this process may use.
        path: "auto", or "event", "dense" or "valued" to run all convolutions one way (same results).

    Attributes:
        isa: the kernels in use. profile: where the last run spent its time, for the benchmarks.

    Raises:
        NmcError: NMC-E01 when the library is missing or this CPU lacks the instruction set asked for.
    """

    name = "native"

    def __init__(self, threads: int | None = None, path: str = "auto") -> None:
        self._library = abi.load()
        self.isa = abi.chosen_isa(self._library)
        self.threads = threads or _cpu_count()
        self._path = abi.PATHS[path]
        self._plan: _Plan | None = None
        self.profile: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``.

        Raises:
            NmcError: NMC-Q01 when a sum could leave 32-bit registers, NMC-W02 when memory does not suffice.
        """
        with self._lock:
            if self._plan is None or self._plan.network is not network:
                self._plan = _Plan(self._library, network, self.isa, self._path)
            run = _Run(self._plan, x, steps, record, self.threads)
            trace = run.trace()
            self.profile = run.profile()
            return trace


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Plan:
    """A network inside the library. Packed weights and buffers live as long as this object."""

    def __init__(self, library: ctypes.CDLL, network: Network, isa: str, path: int) -> None:
        self.library = library
        self.network = network
        self.tables = native_plan.tables(network)
        self.handle = library.nmc_plan_create(
            self.tables.populations,
            len(network.populations),
            self.tables.projections,
            len(network.projections),
            isa.encode(),
            path,
        )
        if not self.handle:
            raise NmcError(
                "NMC-E01", "native", f"this CPU cannot run the {isa} kernels", "unset NMC_NATIVE_ISA"
            )
        weakref.finalize(self, library.nmc_plan_free, self.handle)
        self.updated = {p.name: p.size * isinstance(p.neuron, FixedNeuron) for p in network.populations}
        self.host_macs = {projection.name: self._host_macs(projection) for projection in network.projections}

    def _host_macs(self, projection: Projection) -> int:
        """Multiplications per sample that the host does."""
        if not projection.on_host:
            return 0
        source = self.network[projection.source].shape
        return synapse.synapse_count(projection.synapse, weight_shape(projection.weight), source)

    def bytes(self, images: int, steps: int) -> int:
        return int(self.library.nmc_plan_bytes(self.handle, images, steps))


@dataclass
class _Arrays:
    """What a run writes for one population."""

    spikes: Int32Array | None = None
    u: Int32Array | None = None
    v: Int32Array | None = None
    total: IntArray | None = None
    final_v: Int32Array | None = None

    @property
    def wanted(self) -> bool:
        return self.spikes is not None or self.total is not None or self.final_v is not None

    def result(self, first: int) -> abi.Result:
        """Pointers to the entries of sample ``first`` and after."""
        return abi.Result(
            *(
                None if array is None else array[first:].ctypes.data
                for array in (self.spikes, self.u, self.v, self.total, self.final_v)
            )
        )


class _Run:
    """One call of the engine: samples go through the library in groups that bound the memory."""

    def __init__(self, plan: _Plan, x: IntArray, steps: int, record: Collection[str], threads: int) -> None:
        self.plan, self.network = plan, plan.network
        self.steps, self.threads = steps, threads
        (source,) = self.network.inputs
        assert isinstance(source.neuron, InputNeuron)
        if steps > STEPS_LIMIT:
            raise NmcError("NMC-U02", "steps", f"{steps:,} are asked for, {STEPS_LIMIT:,} are allowed")
        if source.neuron.encoding is Encoding.SPIKES:
            x = encode.train_of(self.network, x, steps)
        self.samples = len(x)
        self.group = self._group_size()
        self._check_memory(x, record)
        self.x = np.ascontiguousarray(x, np.int64)
        self.arrays = {p.name: self._arrays(p.name, p.name in record) for p in self.network.populations}
        populations, projections = len(self.network.populations), len(self.network.projections)
        self.counters = {
            name: np.zeros(populations if name in abi.PER_POPULATION else projections, np.int64)
            for name in abi.COUNTERS
        }

    def _group_size(self) -> int:
        one = self.plan.bytes(1, self.steps)
        more = max(1, self.plan.bytes(2, self.steps) - one)
        return int(min(self.samples, GROUP_IMAGES, max(1, GROUP_BYTES // more)))

    def _check_memory(self, x: IntArray, record: Collection[str]) -> None:
        """Refuse before anything is allocated."""
        copied = 0 if x.flags.c_contiguous and x.dtype == np.int64 else x.size * 8
        recorded = memory.recorded_bytes(self.network, self.samples, self.steps, record)
        working = memory.recorded_bytes(self.network, self.group, min(self.steps, 32), record)
        memory.refuse_beyond_free(
            self.network, self.plan.bytes(self.group, self.steps) + copied + recorded + working
        )

    def _arrays(self, name: str, recorded: bool) -> _Arrays:
        population = self.network[name]
        lead = (self.samples, *population.shape)
        arrays = _Arrays()
        if recorded:
            whole = (self.samples, self.steps, *population.shape)
            arrays.spikes, arrays.u, arrays.v = (np.zeros(whole, np.int32) for _ in range(3))
        if name in self.network.outputs:
            if self.network.readout == "potential":
                arrays.final_v = np.zeros(lead, np.int32)
            else:
                arrays.total = np.zeros(lead, np.int64)
        return arrays

    def trace(self) -> Trace:
        for first in range(0, self.samples, self.group):
            self._call(first, min(self.group, self.samples - first))
        outputs = [self._output(name) for name in self.network.outputs]
        kept = {name: a for name, a in self.arrays.items() if a.spikes is not None}
        return Trace(
            self.samples,
            self.steps,
            np.concatenate(outputs, axis=1),
            self._counts(),
            {name: a.spikes for name, a in kept.items() if a.spikes is not None},
            {name: a.u for name, a in kept.items() if a.u is not None},
            {name: a.v for name, a in kept.items() if a.v is not None},
        )

    def _call(self, first: int, images: int) -> None:
        results = (abi.Result * len(self.arrays))()
        for index, arrays in enumerate(self.arrays.values()):
            if arrays.wanted:
                results[index] = arrays.result(first)
        x = self.x[first:]
        status = self.plan.library.nmc_plan_run(
            self.plan.handle,
            x.ctypes.data,
            x[0].size,
            images,
            self.steps,
            self.threads,
            results,
            abi.Counters(*(array.ctypes.data for array in self.counters.values())),
        )
        if status == abi.NO_MEMORY:
            raise NmcError("NMC-W02", self.network.name, "memory ran out", "run fewer samples at a time")
        if status == abi.BAD_INPUT:
            encode.refuse_foreign(self.network, self.x)
        if status != abi.OK:
            raise InternalError(f"native engine returned status {status}")

    def _output(self, name: str) -> IntArray:
        arrays = self.arrays[name]
        result = arrays.final_v if arrays.total is None else arrays.total
        assert result is not None
        return result.reshape(self.samples, -1).astype(np.int64)

    def profile(self) -> dict[str, dict[str, int]]:
        """Nanoseconds per population; image steps per projection that ran event-driven and dense."""
        populations = [population.name for population in self.network.populations]
        projections = [projection.name for projection in self.network.projections]
        return {
            kind: dict(
                zip(populations if kind in abi.PER_POPULATION else projections, counts.tolist(), strict=True)
            )
            for kind, counts in self.counters.items()
            if kind in ("nanoseconds", "event_steps", "dense_steps")
        }

    def _counts(self) -> Counts:
        counts = Counts(self.samples, self.steps)
        for population, spikes, grades in zip(
            self.network.populations, self.counters["spikes"], self.counters["grades"], strict=True
        ):
            counts.spikes[population.name], counts.grades[population.name] = int(spikes), int(grades)
            counts.updates[population.name] = self.plan.updated[population.name] * self.samples * self.steps
        for projection, synops, graded in zip(
            self.network.projections, self.counters["synops"], self.counters["graded_synops"], strict=True
        ):
            on_host = projection.on_host
            counts.synops[projection.name] = 0 if on_host else int(synops)
            counts.graded_synops[projection.name] = 0 if on_host else int(graded)
            counts.host_macs[projection.name] = self.plan.host_macs[projection.name] * self.samples
        return counts
